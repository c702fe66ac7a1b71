//! Replicas whose reads and writes interleave at random, while somebody spoils the objects: whatever is served is trusted.

use proptest::prelude::*;

use super::*;

/// How far an API server's view of the bundle may lag behind, in seconds; less than the replicas wait.
const LAG: u64 = 2;

const SETTLE: Duration = Duration::from_secs(3);

/// A cluster with versions.
#[derive(Debug)]
struct World {
    objects: Objects,
    secret_version: u64,
    bundle_version: u64,
    /// Bundles that an API server may still go by, with the time at which they became old.
    before: Vec<(u64, Vec<Vec<u8>>)>,
    now: u64,
    begin: Instant,
}

/// One replica, in the middle of a look.
#[derive(Debug, Default)]
struct Replica {
    trust: Trust,
    serving: Option<Serving>,
    phase: Phase,
    /// Looks that were ended.
    looks: u64,
    /// Since the bundle was taken away last.
    excuse: Option<Excuse>,
}

/// Until a replica has looked at what became of the bundle, and API servers at what became of that, nobody can help.
#[derive(Debug, Clone, Copy)]
enum Excuse {
    /// Looks that it has to end.
    Looks(u64),
    Until(u64),
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    ReadConfiguration,
    ReadSecret {
        bundles: Vec<Vec<u8>>,
        version: u64,
    },
    Write {
        write: Write,
        secret_version: u64,
        bundle_version: u64,
    },
}

impl World {
    fn publish(&mut self, bundle: &[u8]) {
        let old = self.objects.bundles.clone();
        self.before.push((self.now, old));
        self.objects.bundles.fill(bundle.to_owned());
        self.bundle_version += 1;
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        self.before.retain(|(until, _)| until + LAG > self.now);
    }

    /// Whether every API server trusts it, however far behind it is.
    fn trusts(&self, leaf: &Pair) -> bool {
        let now = Objects {
            bundles: self.objects.bundles.clone(),
            ..Objects::default()
        };
        let before = self.before.iter().map(|(_, bundles)| Objects {
            bundles: bundles.clone(),
            ..Objects::default()
        });
        std::iter::once(now)
            .chain(before)
            .all(|seen| seen.trusts(leaf, self.now))
    }
}

impl Replica {
    fn is_excused(&mut self, now: u64) -> bool {
        self.excuse = match self.excuse {
            Some(Excuse::Looks(looks)) if self.looks >= looks => Some(Excuse::Until(now + LAG)),
            Some(Excuse::Until(until)) if now > until => None,
            excuse => excuse,
        };
        self.excuse.is_some()
    }

    /// Goes on by one read or one write.
    fn go_on(&mut self, world: &mut World) {
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::ReadConfiguration => Phase::ReadSecret {
                bundles: world.objects.bundles.clone(),
                version: world.bundle_version,
            },
            Phase::ReadSecret { bundles, version } => self.decide(world, &bundles, version),
            Phase::Write {
                write,
                secret_version,
                bundle_version,
            } => {
                match write {
                    Write::Secret { changes, .. } if secret_version == world.secret_version => {
                        world.objects.write(changes);
                        world.secret_version += 1;
                    }
                    Write::Bundle(bundle) if bundle_version == world.bundle_version => {
                        world.publish(bundle.as_bytes());
                    }
                    // The loser of a race.
                    Write::Secret { .. } | Write::Bundle(_) | Write::Nothing => {}
                }
                Phase::ReadConfiguration
            }
        };
    }

    fn decide(&mut self, world: &World, bundles: &[Vec<u8>], bundle_version: u64) -> Phase {
        let contents = world.objects.contents();
        let clock = world.begin + Duration::from_secs(world.now - BEGIN);
        self.trust.see(published(bundles), clock);
        let settled = self.trust.settled(clock, SETTLE);
        let seen = Seen {
            contents: &contents,
            bundles,
            settled: &settled,
            serving: self
                .serving
                .as_ref()
                .and_then(|serving| serving.issuer.as_ref()),
            names: &names(),
            now: at(world.now),
        };
        let step = seen.step();
        if seen.servable() {
            self.serving = Some(Serving {
                leaf: contents.leaf.clone(),
                issuer: seen.issuer(),
            });
        }
        let write = step.write(&names(), at(world.now)).unwrap();
        if matches!(write, Write::Nothing) {
            self.looks += 1;
        }
        Phase::Write {
            write,
            secret_version: world.secret_version,
            bundle_version,
        }
    }
}

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    GoOn(usize),
    Pass(u64),
    LoseSecret,
    LoseBundle,
    Restart(usize),
}

const REPLICAS: usize = 3;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        60 => (0..REPLICAS).prop_map(Event::GoOn),
        20 => (0..4_u64).prop_map(Event::Pass),
        2 => Just(Event::LoseSecret),
        1 => Just(Event::LoseBundle),
        1 => (0..REPLICAS).prop_map(Event::Restart),
    ]
}

fn run(events: &[Event]) {
    let mut world = World {
        objects: Objects::installed(),
        secret_version: 0,
        bundle_version: 0,
        before: Vec::new(),
        now: BEGIN,
        begin: Instant::now(),
    };
    let mut replicas: [Replica; REPLICAS] = Default::default();
    let mut losses = 0;
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::GoOn(replica) => replicas[*replica].go_on(&mut world),
            Event::Pass(seconds) => world.pass(*seconds),
            // More than that may drop the CA of somebody who serves on.
            Event::LoseSecret if losses == OLD_MAX => {}
            Event::LoseSecret => {
                losses += 1;
                world.objects.data.clear();
                world.secret_version += 1;
            }
            Event::LoseBundle => {
                world.objects.bundles.fill(Vec::new());
                world.bundle_version += 1;
                for replica in &mut replicas {
                    replica.excuse = Some(Excuse::Looks(replica.looks + 2));
                }
            }
            Event::Restart(replica) => replicas[*replica] = Replica::default(),
        }
        for (which, replica) in replicas.iter_mut().enumerate() {
            let is_excused = replica.is_excused(world.now);
            if let Some(serving) = replica.serving.as_ref().filter(|_| !is_excused) {
                assert!(
                    world.trusts(&serving.leaf),
                    "replica {which} is not trusted after event {number}: {event:?}"
                );
            }
        }
    }
    converge(&mut world, &mut replicas);
}

/// Left alone, all come to serve one leaf that is trusted.
fn converge(world: &mut World, replicas: &mut [Replica; REPLICAS]) {
    for _ in 0..10 {
        world.pass(5);
        for replica in replicas.iter_mut() {
            for _ in 0..30 {
                replica.go_on(world);
            }
        }
    }
    let leaf = world.objects.contents().leaf;
    assert!(world.trusts(&leaf));
    for replica in replicas {
        assert_eq!(
            replica.serving.as_ref().map(|serving| &serving.leaf),
            Some(&leaf)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn whatever_is_served_is_trusted_however_replicas_interleave(events in proptest::collection::vec(event(), 200..400)) {
        run(&events);
    }
}
