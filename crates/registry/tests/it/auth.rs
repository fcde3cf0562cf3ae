//! Who may come in, and what they may do: passwords, rules, tokens, certificates.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use registry::config::{Config, Right, Rule, Tls, Token};
use rustls_pki_types::pem::PemObject as _;

use crate::client::{Registry, code, json, text};

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn rule(users: &[&str], repositories: &[&str], rights: &[Right]) -> Rule {
    let owned = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
    Rule {
        users: owned(users),
        repositories: owned(repositories),
        rights: rights.to_vec(),
        ..Rule::default()
    }
}

/// Ann pushes to her own and pulls all, guests pull what is public.
fn people(config: &mut Config, folder: &std::path::Path) {
    let file = folder.join("users");
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let lines = format!("ann:{}\nbob:{}\n", hash("geheim"), hash("other"));
    std::fs::write(&file, lines).unwrap();
    config.auth.htpasswd = Some(file);
    let public = Rule {
        anonymous: true,
        ..rule(&[], &["public/**"], &[Right::Pull])
    };
    config.access = vec![
        public,
        rule(
            &["ann"],
            &["ann/**", "public/**"],
            &[Right::Pull, Right::Push],
        ),
        rule(&["*"], &["shared"], &[Right::Pull]),
    ];
}

#[test]
fn passwords_and_rules() {
    let registry = Registry::start_with(people);
    let ask = |method: &str, path: &str, who: &str| {
        let headers: &[(&str, &str)] = match who {
            "" => &[],
            who => &[("Authorization", who)],
        };
        registry.ask(method, path, headers, b"")
    };
    let (ann, bob, wrong) = (
        basic("ann", "geheim"),
        basic("bob", "other"),
        basic("ann", "x"),
    );
    let check = |method: &str, path: &str, who: &str, status: u16| {
        let answer = ask(method, path, who);
        assert_eq!(
            answer.status,
            status,
            "{method} {path} {who}: {}",
            text(&answer)
        );
        if status == 401 {
            assert_eq!(code(&answer), "UNAUTHORIZED");
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge, Some("Basic realm=\"gorae\""));
        }
    };
    check("GET", "/v2/", &wrong, 401);
    check("GET", "/v2/", &basic("eve", "geheim"), 401);
    check("GET", "/v2/", &ann, 200);
    check("GET", "/v2/", "Basic nonsense", 401);
    check("POST", "/v2/ann/a/blobs/uploads/", "", 401);
    check("POST", "/v2/ann/a/blobs/uploads/", &bob, 403);
    check("POST", "/v2/ann/a/blobs/uploads/", &ann, 202);
    check("GET", "/v2/ann/a/tags/list", &bob, 403);
    check("GET", "/v2/public/a/tags/list", "", 404);
    check("GET", "/v2/shared/tags/list", &bob, 404);
    check("GET", "/v2/shared/tags/list", "", 401);
    check("DELETE", "/v2/ann/a/manifests/x", &ann, 403);
}

/// A blob is readable only where it is linked, and a mount needs the right to read its source.
#[test]
fn content_is_readable_through_its_own_repositories() {
    let registry = Registry::start_with(people);
    let ann = basic("ann", "geheim");
    let ann = [("Authorization", &*ann)];
    let digest = storage::digest_of(b"secret").to_string();
    let push = format!("/v2/ann/a/blobs/uploads/?digest={digest}");
    assert_eq!(registry.ask("POST", &push, &ann, b"secret").status, 201);
    let public = format!("/v2/public/x/blobs/{digest}");
    assert_eq!(registry.get(&public).status, 404);
    registry_rule_for_bob(&registry, &digest);
    let listed = json(&registry.ask("GET", "/v2/_catalog", &ann, b""));
    assert_eq!(listed["repositories"], serde_json::json!(["ann/a"]));
    let listed = json(&registry.get("/v2/_catalog"));
    assert_eq!(listed["repositories"], serde_json::json!([]));
}

fn registry_rule_for_bob(registry: &Registry, digest: &str) {
    let bob = basic("bob", "other");
    let headers = [("Authorization", &*bob)];
    for query in ["&from=ann/a", ""] {
        let mount = format!("/v2/ann/b/blobs/uploads/?mount={digest}{query}");
        assert_eq!(registry.ask("POST", &mount, &headers, b"").status, 403);
    }
}

#[test]
fn tokens_of_the_registry_itself() {
    let registry = Registry::start_with(|config, folder| {
        people(config, folder);
        config.auth.token = Some(Token {
            realm: None,
            service: "registry.test".to_owned(),
            issuer: "registry.test".to_owned(),
            keys: Vec::new(),
            issue: true,
            life: registry::config::Span::parse("5m").unwrap(),
        });
    });
    let address = registry.address;
    let door = registry.ask("GET", "/v2/", &[("Host", &address.to_string())], b"");
    assert_eq!(door.status, 401);
    let push = registry.ask("POST", "/v2/ann/a/blobs/uploads/", &[], b"");
    let challenge = push.header("www-authenticate").unwrap();
    let expect = format!(
        "Bearer realm=\"http://{address}/token\",service=\"registry.test\",scope=\"repository:ann/a:pull,push\""
    );
    assert_eq!(challenge, expect);
    let token = |who: &[(&str, &str)], scope: &str| {
        let answer = registry.ask(
            "GET",
            &format!("/token?service=registry.test&scope={scope}"),
            who,
            b"",
        );
        assert_eq!(answer.status, 200, "{}", text(&answer));
        format!("Bearer {}", json(&answer)["token"].as_str().unwrap())
    };
    let status = |method: &str, path: &str, token: &str| {
        registry
            .ask(method, path, &[("Authorization", token)], b"")
            .status
    };
    let ann = basic("ann", "geheim");
    let ann = token(
        &[("Authorization", &ann)],
        "repository:ann/a:pull,push,delete",
    );
    assert_eq!(status("POST", "/v2/ann/a/blobs/uploads/", &ann), 202);
    assert_eq!(
        status("DELETE", "/v2/ann/a/manifests/x", &ann),
        401,
        "no rule allows it"
    );
    assert_eq!(
        status("POST", "/v2/ann/b/blobs/uploads/", &ann),
        401,
        "another scope"
    );
    let guest = token(&[], "repository:public/a:pull,push");
    assert_eq!(status("GET", "/v2/public/a/tags/list", &guest), 404);
    assert_eq!(status("POST", "/v2/public/a/blobs/uploads/", &guest), 401);
    assert_eq!(status("GET", "/v2/", &guest), 200);
    assert_eq!(status("GET", "/v2/", "Bearer nonsense"), 401);
    let wrong = basic("ann", "x");
    let refused = registry.ask("GET", "/token", &[("Authorization", &wrong)], b"");
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Basic realm=\"gorae\"")
    );
}

/// A request over TLS, with one authority that is trusted.
fn over_tls(registry: &Registry, authority: &str) -> std::io::Result<u16> {
    let mut roots = rustls::RootCertStore::empty();
    let der = rustls_pki_types::CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
    roots.add(der).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = std::net::TcpStream::connect(registry.address)?;
    let mut stream = rustls::StreamOwned::new(client, socket);
    let answer = testkit::http::exchange(&mut stream, "localhost", "GET", "/v2/", &[], b"")?;
    Ok(answer.status)
}

#[test]
fn tls_is_renewed_in_place() {
    let make = || testkit::registry::make_certificate(&["localhost".to_owned()]).unwrap();
    let write = |folder: &std::path::Path, certificate: &str, key: &str| {
        std::fs::write(folder.join("cert.pem"), certificate).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
    };
    let [first, certificate, key] = make();
    let mut registry = Registry::start_with(|config, folder| {
        write(folder, &certificate, &key);
        config.tls = Some(Tls {
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            client_ca: None,
        });
    });
    assert_eq!(over_tls(&registry, &first).unwrap(), 200);
    let tls = registry.config.tls.clone().unwrap();
    let folder = tls.certificate.parent().unwrap();
    write(folder, "nothing", "nothing");
    assert!(registry.try_reload().is_err());
    assert_eq!(over_tls(&registry, &first).unwrap(), 200, "all goes on");
    let [second, certificate, key] = make();
    write(folder, &certificate, &key);
    registry.reload(|_| {});
    assert_eq!(over_tls(&registry, &second).unwrap(), 200);
    assert!(over_tls(&registry, &first).is_err());
    assert!(testkit::http::request(registry.address, "GET", "/v2/", &[], b"").is_err());
}
