//! Where the control sockets of processes outside of pods are: those of `weir run`, found again by `weirctl`.

use std::env;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// The directory for the control sockets of this user: `$XDG_RUNTIME_DIR/weir`, or `/tmp/weir-UID` where there is no
/// runtime directory of this user's own.
///
/// Each process puts its socket there as `PID.sock`; [`create`] makes the directory.
#[must_use]
pub fn default_socket_dir() -> PathBuf {
    let uid = geteuid().as_raw();
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        // A runtime directory that came along through `sudo -E` belongs to somebody else.
        .filter(|dir| fs::metadata(dir).is_ok_and(|metadata| metadata.uid() == uid));
    match runtime_dir {
        Some(dir) => dir.join("weir"),
        None => env::temp_dir().join(format!("weir-{uid}")),
    }
}

/// Makes `dir` for this user alone, or makes sure that it is.
///
/// # Errors
/// If it cannot be made, or if somebody else could have put something into it.
pub fn create(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(dir)?;
    if is_private(&metadata) {
        return Ok(());
    }
    let text = format!(
        "{}: is no directory that only this user can write to; remove it",
        dir.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// The control sockets in `dir`, the newest first; none if the directory is not this user's own.
#[must_use]
pub fn sockets(dir: &Path) -> Vec<PathBuf> {
    if !fs::symlink_metadata(dir).is_ok_and(|metadata| is_private(&metadata)) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut sockets: Vec<(i64, i64, PathBuf)> = entries
        .take(ENTRIES_MAX)
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let metadata = fs::symlink_metadata(&path).ok()?;
            let is_socket = path
                .extension()
                .is_some_and(|extension| extension == "sock");
            is_socket.then(|| (metadata.ctime(), metadata.ctime_nsec(), path))
        })
        .collect();
    sockets.sort_unstable();
    sockets.into_iter().rev().map(|(_, _, path)| path).collect()
}

fn is_private(metadata: &Metadata) -> bool {
    metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

/// Most entries of a directory that are looked at.
const ENTRIES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("weir");
        create(&dir).unwrap();
        create(&dir).unwrap();
        fs::write(dir.join("1.sock"), "").unwrap();
        assert_eq!(sockets(&dir), [dir.join("1.sock")]);
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        create(&dir).unwrap_err();
        assert!(sockets(&dir).is_empty());
        let link = parent.path().join("link");
        symlink(parent.path(), &link).unwrap();
        create(&link).unwrap_err();
    }
}
