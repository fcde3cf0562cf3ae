//! Authentication: challenges, token servers, and where credentials may go.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use distribution::{Client, Credentials, ErrorKind, Repository};
use oci::Platform;

use crate::fake::{
    Act, Fake, Seen, answer, complaint, descriptor, manifest_answer, manifest_json, ok, quick,
    read_all,
};

const BLOB: &[u8] = b"a layer";

/// A registry that gives everything to who has `Bearer good-N`, N as the current generation.
fn guarded(seen: &Seen, realm: &str, valid: &str) -> Act {
    if seen.header("authorization") != Some(valid) {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"reg\"");
        return answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"");
    }
    match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        target if target.contains("/manifests/") => manifest_answer(&manifest_json()),
        _ => ok(BLOB),
    }
}

async fn registry(token_server: &Fake, valid: &'static str) -> Fake {
    let realm = format!("http://{}/token", token_server.address);
    Fake::start(move |seen, _| guarded(seen, &realm, valid)).await
}

fn at(fake: &Fake, credentials: Option<Credentials>) -> Repository {
    let reference = format!("{}/a/b:tag", fake.address).parse().unwrap();
    Client::new(quick()).repository(&reference, credentials)
}

#[tokio::test]
async fn gets_an_anonymous_token_once() {
    let tokens = Fake::start(|_, _| ok(br#"{"token":"good","expires_in":300}"#)).await;
    let fake = registry(&tokens, "Bearer good").await;
    let repository = at(&fake, None);
    let resolved = repository.resolve(&Platform::host()).await.unwrap();
    read_all(&resolved.repository, &descriptor(BLOB))
        .await
        .unwrap();
    let asked = tokens.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].target,
        "/token?service=reg&scope=repository:a/b:pull"
    );
    assert_eq!(asked[0].header("authorization"), None);
    // One knock, one manifest, one blob: no request was refused but the first.
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn fetches_a_token_once_for_parallel_requests() {
    let tokens = Fake::start(|_, _| ok(br#"{"access_token":"good"}"#)).await;
    let fake = registry(&tokens, "Bearer good").await;
    let repository = at(&fake, None);
    let blob = descriptor(BLOB);
    let one = || read_all(&repository, &blob);
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    for result in [a, b, c, d] {
        assert_eq!(result.unwrap(), BLOB);
    }
    assert_eq!(tokens.seen().len(), 1);
}

#[tokio::test]
async fn renews_a_token_that_is_refused() {
    let tokens = Fake::start(|_, before| match before {
        0 => ok(br#"{"token":"stale"}"#),
        _ => ok(br#"{"token":"good"}"#),
    })
    .await;
    let fake = registry(&tokens, "Bearer good").await;
    at(&fake, None).resolve(&Platform::host()).await.unwrap();
    assert_eq!(tokens.seen().len(), 2);
}

#[tokio::test]
async fn ends_when_no_token_is_good() {
    let tokens = Fake::start(|_, _| ok(br#"{"token":"bad"}"#)).await;
    let fake = registry(&tokens, "Bearer good").await;
    let error = at(&fake, None).resolve(&Platform::host()).await;
    let message = error.unwrap_err().message();
    assert!(
        message.ends_with("unauthorized: authentication required"),
        "{message}"
    );
    assert!(tokens.seen().len() <= 2);
}

/// Docker Hub's answer for a repository that does not exist or is private.
#[tokio::test]
async fn tells_that_a_token_lacks_the_scope() {
    let tokens = Fake::start(|_, _| ok(br#"{"token":"narrow"}"#)).await;
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"reg\",scope=\"repository:a/b:pull\"",
        tokens.address
    );
    let fake = Fake::start(move |seen, _| {
        let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        let mut challenge = challenge.clone();
        if seen.header("authorization").is_some() {
            challenge.push_str(",error=\"insufficient_scope\"");
        }
        answer(
            "401 Unauthorized",
            &[("WWW-Authenticate", &challenge)],
            body,
        )
    })
    .await;
    let error = at(&fake, None)
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    let expected = format!(
        "pull access denied for {}/a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        fake.address
    );
    assert_eq!(error.message(), expected);
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn sends_password_and_refresh_token_to_the_token_server_only() {
    let tokens = Fake::start(|_, _| ok(br#"{"token":"good"}"#)).await;
    let fake = registry(&tokens, "Bearer good").await;
    let own = Credentials::basic("ann", "secret");
    at(&fake, Some(own))
        .resolve(&Platform::host())
        .await
        .unwrap();
    let basic = format!("Basic {}", STANDARD.encode("ann:secret"));
    assert_eq!(
        tokens.seen()[0].header("authorization"),
        Some(basic.as_str())
    );
    assert!(tokens.seen()[0].target.contains("account=ann"));

    let refresh = Credentials {
        identity_token: "re+fresh".into(),
        ..Credentials::default()
    };
    at(&fake, Some(refresh))
        .resolve(&Platform::host())
        .await
        .unwrap();
    let last = tokens.seen().pop().unwrap();
    assert_eq!(
        (last.method.as_str(), last.target.as_str()),
        ("POST", "/token")
    );
    assert_eq!(
        last.body,
        "grant_type=refresh_token&service=reg&client_id=docker&scope=repository:a/b:pull&refresh_token=re%2Bfresh"
    );
    for seen in fake.seen() {
        assert!(
            !seen
                .header("authorization")
                .is_some_and(|v| v.contains("Basic"))
        );
    }
}

#[tokio::test]
async fn keeps_the_tokens_of_two_users_apart() {
    let tokens = Fake::start(|seen, _| match seen.header("authorization") {
        Some(_) => ok(br#"{"token":"good"}"#),
        None => ok(br#"{"token":"anonymous"}"#),
    })
    .await;
    let fake = registry(&tokens, "Bearer good").await;
    let client = Client::new(quick());
    let reference = format!("{}/a/b:tag", fake.address).parse().unwrap();
    let own = Some(Credentials::basic("ann", "secret"));
    let known = client.resolve(&reference, own, &Platform::host()).await;
    assert!(known.is_ok());
    let anonymous = client.resolve(&reference, None, &Platform::host()).await;
    assert!(anonymous.is_err());
}

#[tokio::test]
async fn sends_a_registry_token_as_it_is() {
    let fake =
        Fake::start(|seen, _| guarded(seen, "http://127.0.0.1:1/none", "Bearer given")).await;
    let own = Credentials {
        registry_token: "given".into(),
        ..Credentials::default()
    };
    at(&fake, Some(own))
        .resolve(&Platform::host())
        .await
        .unwrap();
}

#[tokio::test]
async fn tells_the_refusal_of_the_token_server() {
    let tokens = Fake::start(|_, _| {
        answer(
            "401 Unauthorized",
            &[],
            br#"{"details":"incorrect username or password"}"#,
        )
    })
    .await;
    let fake = registry(&tokens, "Bearer good").await;
    let error = at(&fake, Some(Credentials::basic("ann", "wrong")))
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    let expected = format!(
        "Get \"http://{}/token\": unauthorized: incorrect username or password",
        tokens.address
    );
    assert_eq!(error.message(), expected);
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let nonsense = Fake::start(|_, _| ok(b"[1]")).await;
    let fake = registry(&nonsense, "Bearer good").await;
    let error = at(&fake, None)
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    assert!(error.message().contains("holds no token"), "{error}");
}

#[tokio::test]
async fn survives_a_refusal_without_a_challenge() {
    let fake = Fake::start(|_, _| answer("401 Unauthorized", &[], b"")).await;
    let own = Some(Credentials::basic("ann", "secret"));
    let error = at(&fake, own).resolve(&Platform::host()).await.unwrap_err();
    let message = error.message();
    assert!(
        message.ends_with("unauthorized: authentication required"),
        "{message}"
    );
    for seen in fake.seen() {
        assert_eq!(seen.header("authorization"), None);
    }
}

#[tokio::test]
async fn leaves_credentials_behind_on_a_redirect_to_another_host() {
    let other = Fake::start(|_, _| ok(BLOB)).await;
    let target = format!("http://{}/storage/x?signature=1", other.address);
    let fake = Fake::start(move |seen, _| {
        if seen.header("authorization").is_none() {
            return answer(
                "401 Unauthorized",
                &[("WWW-Authenticate", "Basic realm=\"r\"")],
                b"",
            );
        }
        match seen.target.as_str() {
            "/v2/" => ok(b"{}"),
            "/v2/a/b/here" => answer("307 Temporary Redirect", &[("Location", &target)], b""),
            // First a redirect within the registry, which keeps the credentials.
            _ => answer("307 Temporary Redirect", &[("Location", "here")], b""),
        }
    })
    .await;
    let repository = at(&fake, Some(Credentials::basic("ann", "secret")));
    let fake_blob = descriptor(BLOB);
    let result = read_all(&repository, &fake_blob).await;
    assert!(
        result.is_err(),
        "the relative redirect leads to /v2/a/b/blobs/here"
    );
    let seen = fake.seen();
    assert!(
        seen.iter()
            .skip(1)
            .all(|s| s.header("authorization").is_some())
    );
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn other_hosts_get_no_authorization_and_their_challenges_no_answer() {
    let other = Fake::start(|seen, before| {
        assert_eq!(seen.header("authorization"), None);
        match before {
            0 => ok(BLOB),
            _ => answer(
                "401 Unauthorized",
                &[("WWW-Authenticate", "Basic realm=\"r\"")],
                b"",
            ),
        }
    })
    .await;
    let target = format!("http://{}/storage/x", other.address);
    let fake = Fake::start(move |seen, _| match seen.header("authorization") {
        None => answer(
            "401 Unauthorized",
            &[("WWW-Authenticate", "Basic realm=\"r\"")],
            b"",
        ),
        Some(_) if seen.target == "/v2/" => ok(b"{}"),
        Some(_) => answer("302 Found", &[("Location", &target)], b""),
    })
    .await;
    let repository = at(&fake, Some(Credentials::basic("ann", "secret")));
    assert_eq!(
        read_all(&repository, &descriptor(BLOB)).await.unwrap(),
        BLOB
    );
    assert!(read_all(&repository, &descriptor(BLOB)).await.is_err());
    assert_eq!(other.seen().len(), 2);
    assert!(
        other
            .seen()
            .iter()
            .all(|seen| seen.header("authorization").is_none())
    );
}

#[tokio::test]
async fn basic_challenge_without_credentials() {
    let fake = Fake::start(|_, _| {
        answer(
            "401 Unauthorized",
            &[("WWW-Authenticate", "Basic realm=\"r\"")],
            b"",
        )
    })
    .await;
    let error = at(&fake, None)
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    let expected = format!(
        "Get \"http://{}/v2/a/b/manifests/tag\": no basic auth credentials",
        fake.address
    );
    assert_eq!(error.message(), expected);
}

#[tokio::test]
async fn login_asks_the_token_server_for_a_refresh_token() {
    let tokens = Fake::start(|seen, _| match seen.header("authorization") {
        Some(_) => ok(br#"{"token":"good","refresh_token":"keep"}"#),
        None => complaint("401 Unauthorized", "UNAUTHORIZED", "who are you"),
    })
    .await;
    let fake = registry(&tokens, "Bearer good").await;
    let client = Client::new(quick());
    let own = Credentials::basic("ann", "secret");
    let login = client.login(&fake.address.to_string(), &own).await.unwrap();
    assert_eq!(login.status, "Login Succeeded");
    assert_eq!(login.identity_token.as_deref(), Some("keep"));
    assert!(tokens.seen()[0].target.contains("offline_token=true"));
}
