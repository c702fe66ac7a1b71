//! Runs `weirctl` in a pod's proxy container (`pods/exec` over a WebSocket), until it ends.
//!
//! Standard input is never closed from here: the older stream protocol (`v4.channel.k8s.io`, Kubernetes 1.29) cannot. What
//! reads a policy is told how long it is, and what goes on for ever ends when the connection does.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::time::Duration;

use control_api::well_known::kubernetes::{BINARY_DIR, PROXY_CONTAINER};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::cluster::{Cluster, bounded};
use crate::Failure;

/// Where what the program writes goes.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Where its standard output and its standard error go.
pub(super) type Sinks<'a> = (Sink<'a>, Sink<'a>);

/// What the program reads: none at all, or this and then nothing, but no end.
pub(super) type Input<'a> = Option<&'a [u8]>;

/// Runs it; the result is its exit code.
pub(super) async fn weirctl(
    cluster: &Cluster,
    pod: &str,
    words: &[String],
    input: Input<'_>,
    (out, err): Sinks<'_>,
) -> Result<u8, Failure> {
    let command = [format!("{BINARY_DIR}/weirctl")];
    let command: Vec<&String> = command.iter().chain(words).collect();
    let params = AttachParams::default()
        .container(PROXY_CONTAINER)
        .stdin(input.is_some())
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER)
        .max_stderr_buf_size(BUFFER);
    let process = bounded(cluster.pods.exec(pod, command, &params)).await;
    // By WebSocket an exec is a GET, for which `get` is checked, and since Kubernetes 1.35 `create` as well.
    let mut process =
        process.map_err(|error| cluster.said(error, "get and create", "pods/exec"))?;
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let ended = process.take_status();
    let (Some(stdout), Some(stderr), Some(ended)) = (stdout, stderr, ended) else {
        return Err("the connection has no streams".into());
    };
    let writing = write(stdin, input.unwrap_or_default());
    let reading = async { tokio::try_join!(copy(stdout, out), copy(stderr, err)) };
    tokio::pin!(reading, ended, writing);
    // First what the program wrote: its end is told after all of it.
    let status = tokio::select! {
        biased;
        read = &mut reading => {
            read?;
            timeout(REST_TIME_MAX, ended).await.ok().flatten()
        }
        status = &mut ended => {
            // A connection that broke leaves the streams open.
            if let Ok(read) = timeout(REST_TIME_MAX, reading).await {
                read?;
            }
            status
        }
        never = &mut writing => match never {},
    };
    code(status.as_ref()).map_err(Failure::from)
}

/// Writes all, and keeps the stream open. If nobody reads on, the program's end tells why.
async fn write(stdin: Option<impl AsyncWrite + Unpin>, input: &[u8]) -> Infallible {
    let Some(mut stdin) = stdin else {
        return pending().await;
    };
    stdin.write_all(input).await.ok();
    stdin.flush().await.ok();
    pending().await
}

async fn copy(mut from: impl AsyncRead + Unpin, into: Sink<'_>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => into(bytes)?,
            _ => return Ok(()),
        }
    }
}

/// The exit code in the status that an exec ends with; without one, why.
fn code(status: Option<&Status>) -> Result<u8, String> {
    let Some(status) = status else {
        return Err("the connection ended before the command did".to_owned());
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status
        .details
        .iter()
        .flat_map(|details| details.causes.iter().flatten());
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_ref()?.parse().ok());
    code.ok_or_else(|| {
        let message = status.message.as_deref().unwrap_or("no reason given");
        format!("the command could not be run: {message}")
    })
}

/// Bytes that are on their way within this process, each way.
const BUFFER: usize = 64 * 1024;
/// Longest wait for what is on its way here when the other side has ended already.
const REST_TIME_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code_of(status: serde_json::Value) -> Result<u8, String> {
        code(Some(&serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn the_exit_code_is_found_in_the_status() {
        assert_eq!(code_of(json!({"status": "Success"})), Ok(0));
        let failed = json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "exit code 3",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        assert_eq!(code_of(failed), Ok(3));
        let absent =
            json!({"status": "Failure", "reason": "InternalError", "message": "no such file"});
        assert_eq!(
            code_of(absent),
            Err("the command could not be run: no such file".to_owned())
        );
        assert!(code(None).is_err());
    }
}
