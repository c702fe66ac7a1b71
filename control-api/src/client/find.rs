//! Finds the control socket that is meant when none is named.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::socket_dir::{base, sockets};
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
    search(Path::new(CONTROL_SOCKET), &base())
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
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::socket_dir::{SOCKET_NAME, new_name};

    fn listen(base: &Path, pid: u32) -> (PathBuf, UnixListener) {
        let dir = base.join(new_name(pid, 0));
        fs::create_dir(&dir).unwrap();
        let path = dir.join(SOCKET_NAME);
        let listener = UnixListener::bind(&path).unwrap();
        (path, listener)
    }

    #[test]
    fn dead_sockets_are_passed_over() {
        let base = tempfile::tempdir().unwrap();
        let of_pod = base.path().join("control.sock");
        assert!(search(&of_pod, base.path()).is_err());
        let (path, alive) = listen(base.path(), 1);
        drop(listen(base.path(), 2));
        assert_eq!(search(&of_pod, base.path()).unwrap(), path);
        drop(alive);
        let error = search(&of_pod, base.path()).unwrap_err();
        assert!(error.to_string().contains("weir run"), "{error}");
    }

    #[test]
    fn the_pods_socket_comes_first() {
        let base = tempfile::tempdir().unwrap();
        let of_pod = base.path().join("control.sock");
        drop(UnixListener::bind(&of_pod).unwrap());
        let _own = listen(base.path(), 1);
        assert_eq!(search(&of_pod, base.path()).unwrap(), of_pod);
    }
}
