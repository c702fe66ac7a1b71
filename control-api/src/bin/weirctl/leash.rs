//! Ends what goes on for ever when standard input ends.
//!
//! Whoever runs `weirctl` in a pod from afar may vanish without a word; the container's runtime then closes standard input
//! and nothing else. Without this, a `watch` nobody reads would stay in the pod until the next revision.

use std::io;
use std::os::fd::AsFd as _;

use tokio::net::unix::pipe::Receiver;

use crate::Failure;

/// Follows until there is nobody to follow for, if that is asked for.
pub(crate) async fn on(
    until_eof: bool,
    following: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    if !until_eof {
        return following.await;
    }
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    // Where it is no pipe, its end says nothing about anybody.
    let Ok(input) = Receiver::from_owned_fd(input) else {
        return following.await;
    };
    tokio::select! {
        biased;
        ended = end(&input) => ended,
        done = following => done,
    }
}

async fn end(input: &Receiver) -> Result<(), Failure> {
    let mut ignored = [0; 256];
    loop {
        input.readable().await?;
        match input.try_read(&mut ignored) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}
