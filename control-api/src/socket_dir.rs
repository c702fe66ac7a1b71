//! Where the control sockets of processes outside of pods are: `weir run` puts its own there, and `weirctl` finds it.
//!
//! Each process has a directory of its own, [`new_name`], and in it a socket named [`SOCKET_NAME`]: one that is killed
//! leaves nothing that another one shares.

use std::env;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// The control socket's name in its process's directory.
pub const SOCKET_NAME: &str = "control.sock";

/// The directory in which this user's processes make theirs: `$XDG_RUNTIME_DIR`, which is in memory, or the one for
/// temporary files where there is no runtime directory of this user's own.
#[must_use]
pub fn base() -> PathBuf {
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // One that came along through `su` or `sudo -E` belongs to somebody else.
    let runtime_dir = runtime_dir
        .filter(|dir| dir.is_absolute() && fs::metadata(dir).is_ok_and(|dir| is_own(&dir)));
    first_short([runtime_dir, Some(env::temp_dir())])
}

/// The first directory in which a socket's path does not become too long.
fn first_short(dirs: [Option<PathBuf>; 2]) -> PathBuf {
    dirs.into_iter()
        .flatten()
        .find(|dir| dir.as_os_str().len() <= BASE_BYTES_MAX)
        .unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// The name of the directory of the process `pid`. `nonce` keeps it apart from what anybody could have put there before.
#[must_use]
pub fn new_name(pid: u32, nonce: u32) -> String {
    format!("{PREFIX}{pid}-{nonce:08x}")
}

/// The control sockets of this user's processes in `base`, the newest first.
#[must_use]
pub fn sockets(base: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(base) else {
        return Vec::new();
    };
    let mut sockets: Vec<(i64, i64, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes())
        })
        .take(PROCESSES_MAX)
        // Temporary files are everybody's: what somebody else could have put there is not looked into.
        .filter(|entry| fs::symlink_metadata(entry.path()).is_ok_and(|dir| is_private(&dir)))
        .filter_map(|entry| {
            let path = entry.path().join(SOCKET_NAME);
            let metadata = fs::symlink_metadata(&path).ok()?;
            Some((metadata.ctime(), metadata.ctime_nsec(), path))
        })
        .collect();
    sockets.sort_unstable();
    sockets.into_iter().rev().map(|(_, _, path)| path).collect()
}

fn is_private(metadata: &Metadata) -> bool {
    metadata.is_dir() && is_own(metadata) && metadata.mode() & 0o022 == 0
}

fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == geteuid().as_raw()
}

const PREFIX: &str = "weir-";
/// A socket's path has at most 107 bytes (`sun_path`, with its final NUL), of which a process's directory and socket take
/// up to 38.
const BASE_BYTES_MAX: usize = 107 - 38;
/// Most directories that are looked into.
const PROCESSES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn make(base: &Path, name: &str, mode: u32) -> PathBuf {
        let dir = base.join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(SOCKET_NAME), "").unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
        dir.join(SOCKET_NAME)
    }

    #[test]
    fn where_paths_would_be_too_long_for_a_socket_it_is_the_systems_own() {
        let short = PathBuf::from("/").join("s".repeat(BASE_BYTES_MAX - 1));
        let long = short.join("s");
        assert_eq!(
            first_short([Some(long.clone()), Some(short.clone())]),
            short
        );
        assert_eq!(first_short([None, Some(long)]), Path::new("/tmp"));
        let longest = short.join(new_name(u32::MAX, u32::MAX)).join(SOCKET_NAME);
        assert!(std::os::unix::net::SocketAddr::from_pathname(longest).is_ok());
    }

    #[test]
    fn only_directories_that_nobody_else_can_write_to_are_looked_into() {
        let base = tempfile::tempdir().unwrap();
        let own = make(base.path(), &new_name(1, 7), 0o700);
        make(base.path(), &new_name(2, 7), 0o777);
        make(base.path(), "other", 0o700);
        fs::create_dir(base.path().join(new_name(3, 7))).unwrap();
        symlink(own.parent().unwrap(), base.path().join(new_name(4, 7))).unwrap();
        assert_eq!(sockets(base.path()), [own]);
        assert!(sockets(Path::new("/nowhere")).is_empty());
    }
}
