//! The control API's Unix socket: made so that it replaces only dead ones, and removed with its owner.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::BindError;

/// A listening Unix socket and its file.
#[derive(Debug)]
pub(super) struct UnixSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file: another process may have put its own in place meanwhile.
    file: Option<(u64, u64)>,
}

impl UnixSocket {
    /// Listens at `path`.
    ///
    /// The socket gets its permissions under another name and is then renamed, so that nobody finds it half made, and
    /// one that a killed process left behind is replaced in one step.
    pub(super) fn bind(path: PathBuf) -> Result<Self, BindError> {
        check_free(&path)?;
        match listen(&path) {
            Ok(listener) => Ok(Self {
                listener,
                file: identity(&path).ok(),
                path,
            }),
            Err(source) => Err(BindError::Unix { path, source }),
        }
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path).ok() == self.file {
            // Whatever keeps the file in place, the next owner replaces it.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn check_free(path: &Path) -> Result<(), BindError> {
    let fail = |source| BindError::Unix {
        path: path.to_owned(),
        source,
    };
    // It is bound under a shorter name, which would succeed.
    if SocketAddr::from_pathname(path).is_err() {
        return Err(BindError::TooLong(path.to_owned()));
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        // Nobody listens: what is left of a process that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(fail(error)),
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let temporary = path.with_file_name(format!(".{}", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    let placed = fs::set_permissions(&temporary, Permissions::from_mode(MODE))
        .and_then(|()| fs::rename(&temporary, path));
    if placed.is_err() {
        drop(fs::remove_file(&temporary));
    }
    placed.map(|()| listener)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Owner and group may connect; who of them is answered is decided by their user id.
const MODE: u32 = 0o660;
