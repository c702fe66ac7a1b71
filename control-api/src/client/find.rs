//! Finds the control socket that is meant when none is named.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::socket_dir::{default_socket_dir, sockets};
use crate::well_known::CONTROL_SOCKET;

/// There is nobody to talk to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no running weir found: nobody answers at {CONTROL_SOCKET} or in {}\n\
     start one with: weir run -- COMMAND\n\
     or name its socket with: --socket PATH, or WEIR_CONTROL_SOCKET",
    dir.display()
)]
pub struct NoSocket {
    /// The directory that was searched.
    pub dir: PathBuf,
}

/// The control socket of a running weir: the pod's, or else the newest of this user's own.
///
/// # Errors
/// [`NoSocket`] if nobody answers on any.
pub fn find_socket() -> Result<PathBuf, NoSocket> {
    search(Path::new(CONTROL_SOCKET), &default_socket_dir())
}

fn search(of_pod: &Path, dir: &Path) -> Result<PathBuf, NoSocket> {
    // One that this user may not use is still the one that is meant: using it says why it cannot be.
    if of_pod.exists() {
        return Ok(of_pod.to_owned());
    }
    sockets(dir)
        .into_iter()
        // A weir that was killed leaves its socket behind.
        .find(|path| UnixStream::connect(path).is_ok())
        .ok_or_else(|| NoSocket {
            dir: dir.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::socket_dir::create;

    #[test]
    fn dead_sockets_are_passed_over() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("weir");
        let of_pod = parent.path().join("control.sock");
        create(&dir).unwrap();
        assert!(search(&of_pod, &dir).is_err());
        let alive = UnixListener::bind(dir.join("1.sock")).unwrap();
        drop(UnixListener::bind(dir.join("2.sock")).unwrap());
        assert_eq!(search(&of_pod, &dir).unwrap(), dir.join("1.sock"));
        drop(alive);
        let error = search(&of_pod, &dir).unwrap_err();
        assert!(error.to_string().contains("weir run"), "{error}");
    }

    #[test]
    fn the_pods_socket_comes_first() {
        let parent = tempfile::tempdir().unwrap();
        let of_pod = parent.path().join("control.sock");
        drop(UnixListener::bind(&of_pod).unwrap());
        assert_eq!(search(&of_pod, parent.path()).unwrap(), of_pod);
    }
}
