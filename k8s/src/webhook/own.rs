//! The injector's own certificate: a CA and a leaf, kept in one Secret, and trusted by the bundle of its own webhook configuration.
//!
//! Every replica looks at both objects once in a while and does what [`plan`] says; versions decide who was first, so there
//! is no leader. What somebody spoils, or Helm takes away, is mended at the next look. While the API server is away, the
//! certificate in memory is served on.

pub mod authority;
pub mod cluster;
pub mod contents;
pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};

use super::certificate::{Pair, Served};
use super::metrics::Metrics;
use authority::Names;
use cluster::{Cluster, ClusterError, Look, SecretLook};
use plan::{Seen, Step, Write, published};

/// Keeps the certificate valid and trusted, and serves it.
#[derive(Debug)]
pub struct Keeper {
    cluster: Cluster,
    names: Names,
    served: Arc<Served>,
    metrics: Arc<Metrics>,
    timing: Timing,
    trust: Trust,
    serving: Option<Serving>,
}

/// How often is looked, and how long waited.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between looks, while nothing is to be done; each is up to a fifth shorter, so that replicas do not look at once.
    pub period: Duration,
    /// From the time that a bundle is published until every API server is sure to know it.
    pub settle: Duration,
    /// Shortest pause after a failure; it doubles up to the period.
    pub pause: Duration,
}

/// What is served.
#[derive(Debug)]
struct Serving {
    leaf: Pair,
    issuer: Option<CertificateDer<'static>>,
}

/// Since when each CA is known to be in every bundle.
#[derive(Debug, Default)]
struct Trust(Vec<(CertificateDer<'static>, Instant)>);

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{STEPS_MAX} steps led to no end; does something else write the Secret or the bundle?")]
    Restless,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            // What heals takes at most so long; a look costs two small reads.
            period: Duration::from_secs(30),
            // Watches of API servers lag by milliseconds; a loaded one's by a second.
            settle: Duration::from_secs(3),
            pause: Duration::from_secs(1),
        }
    }
}

impl Keeper {
    /// Will keep the certificate for `names` in `cluster`.
    #[must_use]
    pub fn new(
        cluster: Cluster,
        names: Names,
        served: Arc<Served>,
        metrics: Arc<Metrics>,
        timing: Timing,
    ) -> Self {
        Self {
            cluster,
            names,
            served,
            metrics,
            timing,
            trust: Trust::default(),
            serving: None,
        }
    }

    /// Looks and mends until `stop` is true. From then on nothing is written: what Helm uninstalls stays away.
    pub async fn keep(mut self, mut stop: watch::Receiver<bool>) {
        let keeping = async {
            let mut failures = 0;
            loop {
                let pause = match self.mend().await {
                    Ok(pause) => {
                        failures = 0;
                        self.metrics.certificate_checked("ok");
                        pause
                    }
                    Err(error) => {
                        failures += 1;
                        self.metrics.certificate_checked(error.code());
                        self.failed(&error, failures)
                    }
                };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = keeping => {}
        }
    }

    /// Looks, does what is to be done, and looks again, until nothing is; gives the time to the next look.
    async fn mend(&mut self) -> Result<Duration, KeepError> {
        for _ in 0..STEPS_MAX {
            let look = self.cluster.look().await?;
            let Some(secret) = &look.secret else {
                tracing::warn!("the certificate's Secret is gone; it is made anew");
                self.cluster.create_secret().await?;
                self.metrics.certificate_renewed("secret");
                continue;
            };
            let (clock, now) = (Instant::now(), UnixTime::now());
            self.trust.see(published(&look.bundles), clock);
            let settled = self.trust.settled(clock, self.timing.settle);
            let seen = Seen {
                contents: &secret.contents,
                bundles: &look.bundles,
                settled: &settled,
                serving: self
                    .serving
                    .as_ref()
                    .and_then(|serving| serving.issuer.as_ref()),
                names: &self.names,
                now,
            };
            let step = seen.step();
            let taken_up = seen.servable().then(|| Serving {
                leaf: secret.contents.leaf.clone(),
                issuer: seen.issuer(),
            });
            if let Some(leaf) = taken_up {
                self.take_up(leaf);
            }
            if let Step::Rest = step {
                return Ok(self.pause(settled.len()));
            }
            self.take(step, &look, secret, now).await?;
        }
        Err(KeepError::Restless)
    }

    fn take_up(&mut self, leaf: Serving) {
        if self
            .serving
            .as_ref()
            .is_some_and(|serving| serving.leaf == leaf.leaf)
        {
            return;
        }
        match self.served.serve(&leaf.leaf) {
            Ok(expiry) => {
                tracing::info!(?expiry, "a new certificate is served");
                self.serving = Some(leaf);
            }
            Err(error) => tracing::error!(%error, "the Secret's certificate cannot be served"),
        }
    }

    async fn take(
        &self,
        step: Step,
        look: &Look,
        secret: &SecretLook,
        now: UnixTime,
    ) -> Result<(), KeepError> {
        match &step {
            Step::NewAuthority { why, .. } => tracing::info!(%why, "a new CA is made"),
            Step::NewLeaf { why, .. } => tracing::info!(%why, "a new certificate is signed"),
            Step::Publish(_) => tracing::info!("the webhook configuration's bundle is written"),
            Step::Keep(_) | Step::Forget | Step::Rest => {}
        }
        let renewed = match step.write(&self.names, now)? {
            Write::Secret { renewed, changes } => {
                self.cluster.write_secret(secret, changes).await?;
                renewed
            }
            Write::Bundle(bundle) => {
                self.cluster.write_bundle(look, &bundle).await?;
                "bundle"
            }
            Write::Nothing => return Ok(()),
        };
        self.metrics.certificate_renewed(renewed);
        Ok(())
    }

    /// Until the next look. While a CA has to settle, that is soon.
    fn pause(&self, settled: usize) -> Duration {
        if settled < self.trust.0.len() {
            return self.timing.settle;
        }
        self.timing.period.mul_f64(1.0 - fastrand::f64() / 5.0)
    }

    /// Says why a look failed, and gives the time to the next.
    fn failed(&self, error: &KeepError, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(PAUSE_DOUBLINGS_MAX));
        let pause = self
            .timing
            .pause
            .saturating_mul(doubled)
            .min(self.timing.period);
        // Whoever lost a race should not meet the winner again.
        let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        if let KeepError::Cluster(ClusterError::Conflict { .. }) = error {
            tracing::info!(%error, "looking again");
        } else {
            let serving = self.serving.is_some();
            tracing::warn!(%error, serving, "the certificate cannot be looked after; trying again");
        }
        pause
    }
}

impl KeepError {
    fn code(&self) -> &'static str {
        match self {
            Self::Cluster(error) => error.code(),
            Self::Make(_) | Self::Restless => "failed",
        }
    }
}

impl Trust {
    /// These are in every bundle.
    fn see(&mut self, published: Vec<CertificateDer<'static>>, now: Instant) {
        let since = |authority: &CertificateDer<'static>| {
            let known = self.0.iter().find(|(known, _)| known == authority);
            known.map_or(now, |(_, since)| *since)
        };
        self.0 = published
            .into_iter()
            .map(|authority| {
                let since = since(&authority);
                (authority, since)
            })
            .collect();
    }

    /// Those that have been for `settle`.
    fn settled(&self, now: Instant, settle: Duration) -> Vec<CertificateDer<'static>> {
        let settled = self
            .0
            .iter()
            .filter(|(_, since)| now.duration_since(*since) >= settle);
        settled.map(|(authority, _)| authority.clone()).collect()
    }
}

/// Most steps of one look; the longest way, from no Secret to a leaf, is four.
const STEPS_MAX: u32 = 8;

/// Most doublings of the pause after failures, before the period bounds it.
const PAUSE_DOUBLINGS_MAX: u32 = 16;
