//! The kernel's table of this network namespace's TCP sockets, `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Its own end. IPv4 addresses are such in both tables.
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) state: State,
    /// The user that it belongs to.
    pub(super) uid: u32,
    /// None: no process holds it, or none has accepted it yet.
    pub(super) inode: Option<u64>,
}

/// What a socket is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Established,
    /// The handshake is under way, begun here.
    Connecting,
    Listening,
    /// About to end, or at an end.
    Other,
}

/// Hands all sockets of one family to `see`, as they are read: the table may be long. A kernel without the family has none.
pub(super) fn each(is_ipv4: bool, mut see: impl FnMut(Row)) -> io::Result<()> {
    let path = if is_ipv4 {
        "/proc/self/net/tcp"
    } else {
        "/proc/self/net/tcp6"
    };
    let table = match File::open(path) {
        Ok(table) => BufReader::new(table),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // The first line has the columns' names.
    for line in table.lines().skip(1) {
        if let Some(row) = row(&line?) {
            see(row);
        }
    }
    Ok(())
}

fn row(line: &str) -> Option<Row> {
    let mut columns = line.split_whitespace().skip(1);
    let (local, remote, state) = (columns.next()?, columns.next()?, columns.next()?);
    // Between them stand queues, timers and retransmissions, and then the time of the next probe.
    let (uid, inode) = (columns.nth(3)?, columns.nth(1)?);
    Some(Row {
        local: address(local)?,
        remote: address(remote)?,
        state: match state {
            "01" => State::Established,
            "02" => State::Connecting,
            "0A" => State::Listening,
            _ => State::Other,
        },
        uid: uid.parse().ok()?,
        inode: inode.parse().ok().filter(|inode| *inode != 0),
    })
}

/// `ADDRESS:PORT`, both hexadecimal; each eight digits of the address are four of its bytes, read as a number of this machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (digits, port) = text.split_once(':')?;
    let word = |place: usize| {
        let digits = digits.get(8 * place..8 * place + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match digits.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_connection_of_this_process_is_in_the_table_with_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let (mut connection, mut listening) = (None, None);
        each(true, |row| {
            if (row.local, row.remote) == (local, remote) {
                connection = Some(row);
            } else if row.local == remote && row.state == State::Listening {
                listening = Some(row);
            }
        })
        .unwrap();
        let connection = connection.unwrap();
        assert_eq!(connection.state, State::Established);
        assert_eq!(connection.uid, nix::unistd::geteuid().as_raw());
        assert!(connection.inode.is_some() && listening.is_some());
    }

    #[test]
    fn ipv4_is_told_in_ipv6s_table() {
        let octets = "::ffff:10.0.0.7".parse::<Ipv6Addr>().unwrap().octets();
        let words = octets.chunks(4).map(|word| {
            let word = u32::from_ne_bytes(word.try_into().unwrap());
            format!("{word:08X}")
        });
        let text = format!("{}:0050", words.collect::<String>());
        assert_eq!(address(&text), Some("10.0.0.7:80".parse().unwrap()));
    }

    #[test]
    fn a_socket_that_nobody_holds_has_no_inode() {
        let line = "  22: 0100007F:9C40 0100007F:0050 06 00000000:00000000 03:00000176 00000000     0        0 0 3 0000000000000000";
        let row = row(line).unwrap();
        assert_eq!((row.state, row.inode), (State::Other, None));
        assert_eq!(row.remote.port(), 80);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in ".{0,200}") {
            row(&line);
        }
    }
}
