//! Ways to a registry: name servers and proxies.

use std::net::{Ipv4Addr, SocketAddr};

use distribution::config::{NameSources, ProxyConfig};
use distribution::{ClientConfig, ErrorKind};
use oci::Platform;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use crate::fake::{Fake, manifest_answer, manifest_json, ok, quick, repository};
use crate::trust;

/// A name server that knows `known.test` as 127.0.0.1 and no other name.
async fn name_server(address: Ipv4Addr) -> JoinHandle<()> {
    let socket = UdpSocket::bind((address, 53)).await.unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet).await {
            let reply = dns_reply(&packet[..length]);
            let _client_may_be_gone = socket.send_to(&reply, client).await;
        }
    })
}

/// RFC 1035, 4.1: the question again, and an answer if it is for the A record of `known.test`.
fn dns_reply(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|b| *b == 0).unwrap() + 5;
    let question = &query[12..end];
    let name = question[..question.len() - 4].to_ascii_lowercase();
    let known = name == b"\x05known\x04test\0";
    let answers = u8::from(known && question[question.len() - 3] == 1);
    let code = if known { 0 } else { 3 };
    let mut reply = vec![
        query[0],
        query[1],
        0x81,
        0x80 | code,
        0,
        1,
        0,
        answers,
        0,
        0,
        0,
        0,
    ];
    reply.extend_from_slice(question);
    if answers == 1 {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    reply
}

#[tokio::test]
async fn asks_the_name_servers_of_resolv_conf() {
    // Each process of tests that run at the same time has its own loopback address.
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let server = Ipv4Addr::new(127, 128 | a, b, c.max(2));
    let task = name_server(server).await;
    let folder = TempDir::new().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(
        &resolv_conf,
        format!("nameserver {server}\noptions timeout:1\n"),
    )
    .unwrap();
    let registry = Fake::start(|seen, _| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        _ => manifest_answer(&manifest_json()),
    })
    .await;
    let config = ClientConfig {
        names: NameSources {
            hosts: "/nonexistent".into(),
            resolv_conf,
        },
        insecure_registries: vec!["known.test".into()],
        ..quick()
    };
    let port = registry.address.port();
    let known = repository(&format!("known.test:{port}/a"), config.clone());
    known.resolve(&Platform::host()).await.unwrap();
    let unknown = repository("unknown.test/a", config);
    let error = unknown.resolve(&Platform::host()).await.unwrap_err();
    assert_eq!(
        error.message(),
        "Get \"https://unknown.test/v2/\": dial tcp: lookup unknown.test: no such host"
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    task.abort();
}

#[tokio::test]
async fn bounds_the_wait_for_dead_name_servers() {
    let folder = TempDir::new().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    // A socket that never answers.
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let server = Ipv4Addr::new(127, 64 | (a & 63), b, c.max(2));
    let silent = UdpSocket::bind((server, 53)).await.unwrap();
    std::fs::write(&resolv_conf, format!("nameserver {server}\n")).unwrap();
    let mut config = quick();
    config.names.resolv_conf = resolv_conf;
    config.timeouts.connect = std::time::Duration::from_millis(500);
    let lost = repository("lost.test/a", config);
    let error = lost.resolve(&Platform::host()).await.unwrap_err();
    assert!(
        error.message().contains("lookup lost.test: i/o timeout"),
        "{}",
        error.message()
    );
    assert_eq!(error.kind(), ErrorKind::Timeout);
    drop(silent);
}

/// A proxy that grants tunnels, all of them to `target`.
async fn tunnel_proxy(
    target: SocketAddr,
    grant: &'static str,
) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        client
            .write_all(format!("HTTP/1.1 {grant}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut server = TcpStream::connect(target).await.unwrap();
        let _either_may_end = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        let head = String::from_utf8(head).unwrap();
        head.trim().lines().map(str::to_owned).collect()
    });
    (address, task)
}

#[tokio::test]
async fn goes_through_a_tunnel_for_https() {
    let registry = trust::registry();
    let port = registry.address().port();
    let (proxy, task) = tunnel_proxy(registry.address(), "200 Connection established").await;
    let mut config = quick();
    config.trust.bundle = registry.ca().map(Into::into);
    config.proxy = ProxyConfig {
        https: format!("http://user:pass@{proxy}"),
        ..ProxyConfig::default()
    };
    // The name is the proxy's to look up: no hosts file knows it here.
    let name = format!("{}:{port}", trust::NAME);
    let through = repository(&format!("{name}/a:t"), config);
    through.resolve(&Platform::host()).await.unwrap();
    drop(through);
    let head = task.await.unwrap();
    assert_eq!(head[0], format!("CONNECT {name} HTTP/1.1"));
    assert!(
        head.contains(&"Proxy-Authorization: Basic dXNlcjpwYXNz".to_owned()),
        "{head:?}"
    );
}

#[tokio::test]
async fn tells_a_refused_tunnel() {
    let registry = Fake::start(|_, _| ok(b"")).await;
    let (proxy, _task) = tunnel_proxy(registry.address, "403 Forbidden by policy").await;
    let mut config = quick();
    config.proxy.https = format!("http://{proxy}");
    let refused = repository("registry.test/a", config);
    let message = refused
        .resolve(&Platform::host())
        .await
        .unwrap_err()
        .message();
    assert!(message.contains("proxyconnect tcp"), "{message}");
    assert!(message.contains("403 Forbidden by policy"), "{message}");
}

#[tokio::test]
async fn sends_http_through_a_proxy_and_loopback_never() {
    let proxy = Fake::start(|seen, _| match seen.target.ends_with("/v2/") {
        true => ok(b"{}"),
        false => manifest_answer(&manifest_json()),
    })
    .await;
    let mut config = quick();
    config.insecure_registries = vec!["registry.test:80".into(), "direct.test".into()];
    config.proxy.http = format!("http://u:p@{}", proxy.address);
    // Https first, as for all insecure registries: that way leads nowhere.
    config.proxy.https = String::new();
    config.proxy.no_proxy = "direct.test".into();
    let folder = TempDir::new().unwrap();
    config.names = trust::with_hosts(folder.path()).names;
    let through = repository("registry.test:80/a", config.clone());
    let _https_is_refused = through.resolve(&Platform::host()).await;
    config.insecure_registries = vec!["registry.test".into()];
    let through = repository("registry.test/a", config.clone());
    through.resolve(&Platform::host()).await.unwrap();
    let seen = proxy.seen();
    assert_eq!(seen[0].target, "http://registry.test/v2/");
    assert_eq!(seen[0].header("proxy-authorization"), Some("Basic dTpw"));

    let before = proxy.seen().len();
    let local = Fake::start(|seen, _| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        _ => manifest_answer(&manifest_json()),
    })
    .await;
    let direct = repository(&format!("{}/a", local.address), config);
    direct.resolve(&Platform::host()).await.unwrap();
    assert_eq!(proxy.seen().len(), before);
}
