//! What the command is told by its environment.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use control_api::well_known::{NO_PROXY_VARIABLES, PROXY_VARIABLES};

/// Where `weirctl` finds the control API.
pub const CONTROL_SOCKET: &str = "WEIR_CONTROL_SOCKET";

/// Tells of the control socket.
pub fn set_control_socket(command: &mut Command, path: &Path) {
    command.env(CONTROL_SOCKET, path);
}

/// Tells of the explicit proxy at `address`, and that it is for every destination.
pub fn set_proxy(command: &mut Command, address: SocketAddr) {
    let url = format!("http://{address}");
    command.envs(PROXY_VARIABLES.map(|name| (name, OsStr::new(&url))));
    command.envs(NO_PROXY_VARIABLES.map(|name| (name, "")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_is_told_of_the_proxy_and_of_no_exception() {
        let mut command = Command::new("true");
        set_proxy(&mut command, "127.0.0.1:19403".parse().unwrap());
        let value = |name: &str| {
            command
                .get_envs()
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| value?.to_str())
        };
        assert_eq!(value("http_proxy"), Some("http://127.0.0.1:19403"));
        assert_eq!(value("HTTPS_PROXY"), Some("http://127.0.0.1:19403"));
        assert_eq!(value("NO_PROXY"), Some(""));
    }
}
