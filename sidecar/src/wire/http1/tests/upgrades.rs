//! Upgrade and CONNECT: granted, refused, and not passed on.

use super::*;

const ASKING: &str = "GET /chat HTTP/1.1\r\nhost: shop\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n";
const ASKING_SENT: &str =
    "GET /chat HTTP/1.1\r\nhost: shop\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";

#[tokio::test]
async fn a_granted_upgrade_becomes_a_tunnel_with_half_closes() {
    let mut rig = rig().await;
    say(&mut rig.app, ASKING).await;
    let mut server = rig.accept().await;
    hear(&mut server, ASKING_SENT).await;
    // The first bytes of the new protocol come with the head.
    say(
        &mut server,
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nx-key: 1\r\n\r\n\n\0first",
    )
    .await;
    let mut head = vec![0; 87];
    within(rig.app.read_exact(&mut head)).await.unwrap();
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    for field in [
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
        "x-key: 1\r\n",
    ] {
        assert!(head.contains(field), "{head}");
    }
    hear(&mut rig.app, "\n\0first").await;
    say(&mut rig.app, "\n\0ping").await;
    hear(&mut server, "\n\0ping").await;
    rig.app.shutdown().await.unwrap();
    hear_last(&mut server, "").await;
    say(&mut server, "last words").await;
    drop(server);
    hear_last(&mut rig.app, "last words").await;
    within(rig.served).await.unwrap();
}

#[tokio::test]
async fn a_reset_in_a_tunnel_stays_a_reset() {
    let mut rig = rig().await;
    say(
        &mut rig.app,
        "CONNECT shop:443 HTTP/1.1\r\nhost: shop:443\r\n\r\n",
    )
    .await;
    let mut server = rig.accept().await;
    hear(
        &mut server,
        "CONNECT shop:443 HTTP/1.1\r\nhost: shop:443\r\n\r\n",
    )
    .await;
    say(
        &mut server,
        "HTTP/1.1 200 Connected\r\ncontent-length: 5\r\n\r\nhello",
    )
    .await;
    hear(&mut rig.app, "HTTP/1.1 200 Connected\r\n\r\nhello").await;
    reset(server);
    let error = within(rig.app.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_response() {
    let mut rig = rig().await;
    say(&mut rig.app, ASKING).await;
    let mut server = rig.accept().await;
    hear(&mut server, ASKING_SENT).await;
    say(&mut server, OK).await;
    hear(&mut rig.app, OK_PASSED).await;
    say(&mut rig.app, GET).await;
    hear(&mut server, GET_SENT).await;
    say(&mut server, OK).await;
    hear(&mut rig.app, OK_PASSED).await;
}

#[tokio::test]
async fn a_refused_connect_is_an_ordinary_response() {
    let mut rig = rig().await;
    say(
        &mut rig.app,
        "CONNECT shop:443 HTTP/1.1\r\nhost: shop:443\r\n\r\n",
    )
    .await;
    let mut server = rig.accept().await;
    hear(
        &mut server,
        "CONNECT shop:443 HTTP/1.1\r\nhost: shop:443\r\n\r\n",
    )
    .await;
    say(
        &mut server,
        "HTTP/1.1 407 No\r\ncontent-length: 2\r\n\r\nhi",
    )
    .await;
    hear(
        &mut rig.app,
        "HTTP/1.1 407 No\r\ncontent-length: 2\r\n\r\nhi",
    )
    .await;
    say(&mut rig.app, GET).await;
    hear(&mut server, GET_SENT).await;
}

#[tokio::test]
async fn an_upgrade_to_h2c_is_not_passed_on() {
    let mut rig = rig().await;
    say(
        &mut rig.app,
        "GET / HTTP/1.1\r\nhost: shop\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    )
    .await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(&mut server, OK).await;
    hear(&mut rig.app, OK_PASSED).await;
    say(&mut rig.app, GET).await;
    hear(&mut server, GET_SENT).await;
}

#[tokio::test]
async fn a_demand_for_an_upgrade_keeps_the_protocols_name() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(
        &mut server,
        "HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: Upgrade\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let mut bytes = vec![0; 1024];
    let count = within(rig.app.read(&mut bytes)).await.unwrap();
    let head = String::from_utf8_lossy(&bytes[..count]);
    assert!(head.contains("upgrade: websocket\r\n"), "{head}");
}

#[tokio::test]
async fn protocols_switched_unasked_are_malformed() {
    let mut rig = rig().await;
    say(&mut rig.app, GET).await;
    let mut server = rig.accept().await;
    hear(&mut server, GET_SENT).await;
    say(
        &mut server,
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: x\r\n\r\n",
    )
    .await;
    hear(
        &mut rig.app,
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 18\r\n\r\nmalformed_response",
    )
    .await;
    hear_last(&mut server, "").await;
}
