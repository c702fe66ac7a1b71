//! A directory for the control socket of one `weir run`, for its owner only, gone with it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How many names are tried. They are random, so a second one is hardly ever needed.
const TRIES: usize = 8;

/// Removed with all that is in it when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// In `$XDG_RUNTIME_DIR`, which is the user's own and in memory, or else in the directory for temporary files.
    ///
    /// # Errors
    /// When no directory can be made there.
    pub fn new() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let usable = runtime.filter(|path| path.is_absolute() && path.is_dir());
        match usable.map(|base| Self::under(&base)) {
            Some(Ok(scratch)) => Ok(scratch),
            // After `su` the variable may still name the directory of another user.
            Some(Err(_)) | None => Self::under(&std::env::temp_dir()),
        }
    }

    fn under(base: &Path) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TRIES {
            let name = format!("weir-{}-{:08x}", std::process::id(), fastrand::u32(..));
            let path = base.join(name);
            // Never one that is there already: in a shared directory it could be a trap.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a failure, and the system clears these directories itself.
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_the_owners_alone_and_goes_with_its_contents() {
        let scratch = Scratch::under(&std::env::temp_dir()).unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(scratch);
        assert!(!path.exists());
    }
}
