//! As whom a case runs.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::geteuid;

/// `nobody` on most systems; it owns nothing.
const NOBODY: u32 = 65534;

/// This process's own user, or, when that is root, an ordinary one.
pub(crate) struct User {
    id: Option<u32>,
    /// A copy of this binary that the user may execute, wherever the build directory is.
    program: PathBuf,
    _directory: tempfile::TempDir,
}

impl User {
    pub(crate) fn all() -> Vec<Self> {
        let own = Self::new(None);
        if !geteuid().is_root() {
            return vec![own];
        }
        let nobody = Self::new(Some(NOBODY));
        // Root of a container may be root of itself only.
        match nobody.command("application").args(["exit", "0"]).status() {
            Ok(_) => vec![own, nobody],
            Err(_) => vec![own],
        }
    }

    fn new(id: Option<u32>) -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).expect("our own directory");
        let program = directory.path().join("weir-test");
        let own = std::env::current_exe().expect("our own path");
        fs::copy(own, &program).expect("room for a copy");
        Self {
            id,
            program,
            _directory: directory,
        }
    }

    /// This binary in another role.
    pub(crate) fn command(&self, role: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(role);
        if let Some(id) = self.id {
            command.uid(id).gid(id);
        }
        command
    }

    pub(crate) fn program(&self) -> &std::path::Path {
        &self.program
    }

    pub(crate) fn uid(&self) -> u32 {
        self.id.unwrap_or_else(|| geteuid().as_raw())
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.uid() == 0 {
            f.write_str("root")
        } else {
            f.write_str("ordinary user")
        }
    }
}
