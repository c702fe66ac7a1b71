//! What a sidecar costs, as the kubelet reports it.

use std::time::Duration;

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{COMMAND, kubectl_json, until};
use serde_json::Value;

/// Working set in MiB and thousandths of a processor of a pod's sidecar.
fn usage(shop: &Namespace, pod: &str) -> Option<(f64, f64)> {
    let node = shop.get(&["pod", pod])["spec"]["nodeName"]
        .as_str()?
        .to_owned();
    let summary = kubectl_json(&[
        "get",
        "--raw",
        &format!("/api/v1/nodes/{node}/proxy/stats/summary"),
    ]);
    let pods = summary["pods"].as_array()?;
    let found = pods
        .iter()
        .find(|one| one["podRef"]["name"] == pod && one["podRef"]["namespace"] == shop.name())?;
    let sidecar: &Value = found["containers"]
        .as_array()?
        .iter()
        .find(|one| one["name"] == "weir-proxy")?;
    let memory = sidecar["memory"]["workingSetBytes"].as_f64()? / 1024.0 / 1024.0;
    Some((
        memory,
        sidecar["cpu"]["usageNanoCores"].as_f64()? / 1_000_000.0,
    ))
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_sidecar_is_small_idle_and_busy() {
    let shop = Namespace::injected("weir-usage");
    shop.shop(&["stock"]);
    let client = shop.client("");
    // The kubelet looks every ten seconds or so: two looks apart belong to the idle time.
    std::thread::sleep(Duration::from_secs(20));
    let idle = until("the kubelet's look", Duration::from_mins(1), || {
        usage(&shop, client)
    });
    let words = [
        "/shop",
        "load",
        "--url",
        "http://stock/stock/1",
        "--rate",
        "300",
        "--seconds",
        "35",
        "--concurrency",
        "50",
    ];
    let mut load = shop.exec_beside(client, "app", &words);
    std::thread::sleep(Duration::from_secs(27));
    let busy = until("the kubelet's look", Duration::from_mins(1), || {
        usage(&shop, client)
    });
    assert!(load.wait(COMMAND).success(), "{}", load.output());
    println!(
        "sidecar by the kubelet: idle {:.1} MiB and {:.1} m of a processor; at 300 calls/s {:.1} MiB and {:.0} m",
        idle.0, idle.1, busy.0, busy.1
    );
    assert!(idle.0 < 12.0, "{idle:?}");
    assert!(idle.1 < 20.0, "{idle:?}");
    assert!(busy.0 < 32.0, "{busy:?}");
    assert!(busy.1 > idle.1, "it was busy: {busy:?} after {idle:?}");
}
