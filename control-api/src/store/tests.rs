use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::*;

fn document(limit: u32) -> Document {
    Document::parse(&text(limit)).unwrap()
}

fn text(limit: u32) -> String {
    format!("version: weir/v1\ndefaults: {{admission: {{limit: {limit}}}}}\n")
}

fn limit(store: &Store) -> u32 {
    store.current().policy.defaults().admission.limit
}

fn in_memory() -> Arc<Store> {
    Store::open(Sources::default()).0
}

fn with_file(path: &Path) -> (Arc<Store>, FileWatch) {
    let (store, watch) = Store::open(Sources {
        file: Some(path.to_owned()),
        ..Sources::default()
    });
    (store, watch.unwrap())
}

fn put(store: &Store, limit: u32) -> Result<Outcome, Stale> {
    let written = Written::now(Origin::Api);
    store.apply(document(limit), written, Expected::Anything)
}

#[test]
fn without_sources_the_built_in_policy_is_revision_one() {
    let store = in_memory();
    let active = store.current();
    assert_eq!(active.revision, 1);
    assert_eq!(active.written.origin, Origin::BuiltIn);
    assert_eq!(limit(&store), 1024);
}

#[test]
fn a_policy_that_says_no_mode_has_that_of_the_sources() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(Sources {
        state_dir: Some(dir.path().to_owned()),
        mode: Mode::Observe,
        ..Sources::default()
    });
    let mode = |store: &Store| store.current().policy.defaults().mode;
    assert_eq!(mode(&store), Mode::Observe);
    put(&store, 8).unwrap();
    assert_eq!((mode(&store), limit(&store)), (Mode::Observe, 8));
    let stated = Document::parse("version: weir/v1\ndefaults: {mode: enforce}\n").unwrap();
    let written = Written::now(Origin::File);
    store.apply(stated, written, Expected::Anything).unwrap();
    assert_eq!(mode(&store), Mode::Enforce);
    // What is kept on disk is what was said.
    put(&store, 9).unwrap();
    let (restarted, _) = Store::open(Sources {
        state_dir: Some(dir.path().to_owned()),
        ..Sources::default()
    });
    assert_eq!((mode(&restarted), limit(&restarted)), (Mode::Enforce, 9));
}

#[test]
fn every_change_is_a_revision_and_is_announced() {
    let store = in_memory();
    let mut announced = store.subscribe();
    let outcome = put(&store, 8).unwrap();
    assert_eq!(outcome.active.revision, 2);
    assert_eq!(outcome.changes.len(), 1);
    assert!(announced.has_changed().unwrap());
    assert_eq!(*announced.borrow_and_update(), 2);
    let same = put(&store, 8).unwrap();
    assert_eq!(same.active.revision, 2);
    assert!(!announced.has_changed().unwrap());
    assert_eq!(store.status().updates.api.accepted, 2);
}

#[test]
fn a_snapshot_outlives_the_policy_that_replaces_it() {
    let store = in_memory();
    let before = store.current();
    put(&store, 8).unwrap();
    assert_eq!(before.policy.defaults().admission.limit, 1024);
}

#[test]
fn a_stale_write_changes_nothing() {
    let store = in_memory();
    put(&store, 8).unwrap();
    let written = Written::now(Origin::Api);
    let stale = store.apply(document(9), written, Expected::Revision(1));
    assert_eq!(stale.unwrap_err(), Stale { current: 2 });
    assert_eq!(limit(&store), 8);
}

#[test]
fn of_concurrent_writers_that_expect_the_same_revision_one_wins() {
    let store = in_memory();
    let wins: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=8)
            .map(|limit| {
                let store = &store;
                scope.spawn(move || {
                    let written = Written::now(Origin::Api);
                    let expected = Expected::Revision(1);
                    store.apply(document(limit), written, expected).is_ok()
                })
            })
            .collect();
        let won = writers.into_iter().map(|writer| writer.join().unwrap());
        won.filter(|won| *won).count()
    });
    assert_eq!(wins, 1);
    assert_eq!(store.current().revision, 2);
}

#[test]
fn the_history_forgets_the_oldest_revisions() {
    let store = in_memory();
    for limit in 1..=60 {
        put(&store, limit).unwrap();
    }
    let revisions = store.revisions();
    assert_eq!(revisions.len(), 50);
    assert_eq!(revisions.first().unwrap().revision, 12);
    assert!(revisions.last().unwrap().current);
    assert_eq!(store.document(11), None);
    assert_eq!(store.document(12), Some(document(11)));
}

#[test]
fn the_history_is_bounded_in_bytes_too() {
    let store = in_memory();
    let name =
        |index: usize, round: usize| format!("{{name: r{index}-{round}-{}}}", "x".repeat(40));
    for round in 0..50 {
        let routes: Vec<String> = (0..1000).map(|index| name(index, round)).collect();
        let wide = format!("{{version: weir/v1, routes: [{}]}}", routes.join(", "));
        let document = Document::parse(&wide).unwrap();
        let bytes = document.to_value().to_string().len();
        let written = Written::now(Origin::Api);
        store.apply(document, written, Expected::Anything).unwrap();
        assert!(store.revisions().len() * bytes <= 5 * 1024 * 1024);
    }
    assert!(store.revisions().len() > 10);
}

#[test]
fn the_last_good_policy_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sources = || Sources {
        state_dir: Some(dir.path().to_owned()),
        ..Sources::default()
    };
    let (store, _) = Store::open(sources());
    put(&store, 8).unwrap();
    put(&store, 9).unwrap();
    let before = store.current();
    drop(store);
    let (store, _) = Store::open(sources());
    let after = store.current();
    assert_eq!(after.revision, 3);
    assert_eq!(after.written, before.written);
    assert_eq!(limit(&store), 9);
    assert_eq!(put(&store, 10).unwrap().active.revision, 4);
}

#[test]
fn a_good_policy_file_comes_before_the_last_good_policy_and_that_before_a_bad_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    let sources = || Sources {
        file: Some(file.clone()),
        state_dir: Some(dir.path().to_owned()),
        ..Sources::default()
    };
    let (store, _) = Store::open(sources());
    assert_eq!(limit(&store), 1024, "no file, nothing kept");
    fs::write(&file, text(8)).unwrap();
    put(&store, 7).unwrap();
    let (store, _) = Store::open(sources());
    assert_eq!(limit(&store), 8, "the file is good");
    assert_eq!(store.current().revision, 3);
    fs::write(&file, "version: weir/v0").unwrap();
    let (store, _) = Store::open(sources());
    assert_eq!(limit(&store), 8, "the file is bad");
    assert_eq!(store.current().revision, 3);
    assert_eq!(store.status().updates.file.rejected, 1);
}

#[test]
fn a_damaged_last_good_policy_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    for damage in [
        "",
        "{",
        "{\"written\":{},\"document\":{\"version\":\"weir/v0\"}}",
        "\u{0}",
        "{\"written\":{\"revision\":18446744073709551615},\"document\":{\"version\":\"weir/v1\"}}",
    ] {
        fs::write(dir.path().join("last-good-policy.json"), damage).unwrap();
        let (store, _) = Store::open(Sources {
            state_dir: Some(dir.path().to_owned()),
            ..Sources::default()
        });
        assert_eq!(store.current().revision, 1, "{damage}");
    }
}

#[test]
fn a_policy_that_cannot_be_kept_is_in_force_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(Sources {
        state_dir: Some(dir.path().join("absent")),
        ..Sources::default()
    });
    put(&store, 8).unwrap();
    assert_eq!(limit(&store), 8);
    assert_eq!(store.status().save_failures, 1);
}

#[test]
fn a_policy_that_cannot_be_kept_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    // What cannot be renamed over.
    fs::create_dir(dir.path().join("last-good-policy.json")).unwrap();
    let (store, _) = Store::open(Sources {
        state_dir: Some(dir.path().to_owned()),
        ..Sources::default()
    });
    put(&store, 8).unwrap();
    assert_eq!(store.status().save_failures, 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_swapped_config_map_is_put_into_force() {
    // As the kubelet does: policy.yaml -> ..data/policy.yaml, ..data -> ..2026_01, swapped by a rename.
    let dir = tempfile::tempdir().unwrap();
    let publish = |version: &str, text: &str| {
        let data = dir.path().join(version);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("policy.yaml"), text).unwrap();
        symlink(version, dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    };
    publish("..2026_01", &text(1));
    let file = dir.path().join("policy.yaml");
    symlink("..data/policy.yaml", &file).unwrap();
    let (store, mut watch) = with_file(&file);
    assert_eq!(limit(&store), 1);
    publish("..2026_02", &text(2));
    fs::remove_dir_all(dir.path().join("..2026_01")).unwrap();
    watch.check();
    assert_eq!(limit(&store), 2);
    assert_eq!(store.current().written.origin, Origin::File);
    publish("..2026_03", "routes: 5");
    watch.check();
    watch.check();
    assert_eq!(limit(&store), 2);
    let status = store.status();
    assert_eq!(
        status.updates.file.rejected, 1,
        "counted once, however often it is seen"
    );
    let rejection = status.last_rejection.unwrap();
    assert_eq!(
        rejection.detail,
        "/version: missing; write version: weir/v1\n/routes: 5 is not a list"
    );
    publish("..2026_04", &text(4));
    watch.check();
    assert_eq!(limit(&store), 4);
    assert_eq!(store.status().updates.file.accepted, 3);
}

#[test]
fn a_file_that_is_written_again_with_the_same_contents_is_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, text(1)).unwrap();
    let (store, mut watch) = with_file(&file);
    put(&store, 7).unwrap();
    fs::remove_file(&file).unwrap();
    watch.check();
    fs::write(&file, text(1)).unwrap();
    watch.check();
    assert_eq!(limit(&store), 7, "the API wrote last");
    fs::write(&file, text(2)).unwrap();
    watch.check();
    assert_eq!(limit(&store), 2, "now the file did");
}

#[test]
fn a_config_map_that_brings_what_the_api_wrote_already_is_no_new_revision() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, text(1)).unwrap();
    let (store, mut watch) = with_file(&file);
    let pushed = put(&store, 7).unwrap().active.revision;
    // The same policy in other words, as people write it.
    fs::write(&file, format!("# saved\n{}", text(7))).unwrap();
    watch.check();
    let active = store.current();
    assert_eq!(
        (active.revision, active.written.origin),
        (pushed, Origin::Api)
    );
    assert_eq!(store.revisions().len(), 3);
    assert_eq!(put(&store, 7).unwrap().active.revision, pushed);
}

#[test]
fn what_is_no_file_or_no_text_or_too_large_keeps_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, text(1)).unwrap();
    let (store, mut watch) = with_file(&file);
    fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    watch.check();
    fs::write(&file, vec![b'x'; 2 * 1024 * 1024]).unwrap();
    watch.check();
    assert_eq!(store.status().updates.file.rejected, 2);
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    watch.check();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    watch.check();
    assert_eq!(limit(&store), 1);
    assert_eq!(store.status().updates.file.rejected, 2);
}

#[tokio::test]
async fn a_running_watch_sees_a_change_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, text(1)).unwrap();
    let (store, watch) = with_file(&file);
    let mut announced = store.subscribe();
    let watch = tokio::spawn(watch.run());
    fs::write(&file, text(2)).unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(30), announced.changed()).await;
    seen.unwrap().unwrap();
    assert_eq!(limit(&store), 2);
    watch.abort();
}
