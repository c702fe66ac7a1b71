//! What one `weir run` puts into the file system: a directory for the control socket, for its owner only.
//!
//! weir chooses the directory's name, and the keeper makes it. Both know it from the start and both remove it, so it
//! goes with the last of them, whichever is killed at whatever moment.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use control_api::socket_dir;

/// A name for a directory that does not exist, where `weirctl` looks for control sockets.
#[must_use]
pub fn choose() -> PathBuf {
    socket_dir::base().join(socket_dir::new_name(std::process::id(), fastrand::u32(..)))
}

/// Makes the directory.
///
/// # Errors
/// Also when it exists: among the temporary files, which all share, it could be a trap.
pub fn create(directory: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(directory)
}

/// What is to be removed. Nothing that another process still uses is.
#[derive(Debug)]
pub struct Leftovers {
    /// With all that is in it.
    pub directory: PathBuf,
    /// Wherever the user wanted it.
    pub control_socket: PathBuf,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        // Nothing can be done about failures here, and mostly the other process was first.
        drop(fs::remove_dir_all(&self.directory));
        if is_stale_socket(&self.control_socket) {
            drop(fs::remove_file(&self.control_socket));
        }
    }
}

/// Whether `path` is a socket that nobody listens on.
fn is_stale_socket(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    fn leftovers(base: &Path) -> Leftovers {
        Leftovers {
            directory: base.join("scratch"),
            control_socket: base.join("control.sock"),
        }
    }

    #[test]
    fn the_directory_is_its_owners_alone_and_goes_with_its_contents() {
        let base = tempfile::tempdir().unwrap();
        let leftovers = leftovers(base.path());
        let directory = leftovers.directory.clone();
        create(&directory).unwrap();
        assert!(create(&directory).is_err(), "one that is there is not ours");
        let mode = fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(directory.join("file"), "").unwrap();
        drop(leftovers);
        assert!(!directory.exists());
    }

    #[test]
    fn a_socket_goes_once_nobody_listens_on_it_and_another_file_never() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        drop(leftovers(base.path()));
        assert!(path.exists(), "it was in use");
        drop(listener);
        drop(leftovers(base.path()));
        assert!(!path.exists(), "nobody listens");
        fs::write(&path, "").unwrap();
        drop(leftovers(base.path()));
        assert!(path.exists(), "no socket");
    }
}
