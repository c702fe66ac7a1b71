//! A name server that knows a few names, and remembers what it was asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running name server. It ends with the test.
#[derive(Debug, Clone)]
pub struct NameServer {
    ip: IpAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// Listens on port 53 of `ip`, which only root may, and answers with these IPv4 addresses.
    pub fn start(ip: Ipv4Addr, names: &[(&str, Ipv4Addr)]) -> Self {
        let socket =
            UdpSocket::bind((ip, 53)).unwrap_or_else(|error| panic!("port 53 of {ip}: {error}"));
        let names: BTreeMap<String, Ipv4Addr> = names
            .iter()
            .map(|(name, ip)| ((*name).to_owned(), *ip))
            .collect();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((count, from)) = socket.recv_from(&mut query) {
                let query = &query[..count];
                let (name, question) = question(query);
                noted.lock().expect("no holder panics").push(name.clone());
                let answer = answer(query, question, names.get(&name));
                // Who asked may be gone.
                drop(socket.send_to(&answer, from));
            }
        });
        Self {
            ip: ip.into(),
            asked,
        }
    }

    /// A resolv.conf(5) that names this server.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.ip)
    }

    /// The names that it was asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no holder panics").clone()
    }
}

/// The name of a query's question, in lower case and without the last dot, and the question's bytes (RFC 1035 §4.1.2).
fn question(query: &[u8]) -> (String, &[u8]) {
    let mut labels = Vec::new();
    let mut at = HEADER;
    while let Some(length) = query
        .get(at)
        .map(|byte| usize::from(*byte))
        .filter(|length| *length > 0)
    {
        let label = query.get(at + 1..=at + length).unwrap_or_default();
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += 1 + length;
    }
    // The root's label, a type and a class.
    let question = query.get(HEADER..at + 5).unwrap_or_default();
    (labels.join("."), question)
}

/// The address for an A record of a known name, nothing for its other records, and NXDOMAIN for all other names.
fn answer(query: &[u8], question: &[u8], known: Option<&Ipv4Addr>) -> Vec<u8> {
    let ip = known.filter(|_| question.ends_with(&[0, 1, 0, 1]));
    let code = if known.is_some() { 0 } else { 3 };
    let mut answer = query.get(..2).unwrap_or_default().to_vec();
    answer.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::from(ip.is_some()),
        0,
        0,
        0,
        0,
    ]);
    answer.extend_from_slice(question);
    if let Some(ip) = ip {
        // The name by a pointer to the question's, the type, the class, a minute, and four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(ip.octets());
    }
    answer
}

/// Length of a message's header.
const HEADER: usize = 12;
