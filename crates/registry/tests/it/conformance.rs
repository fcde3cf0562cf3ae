//! The categories of the distribution specification: pull, push, content discovery, content management.

use crate::client::{INDEX, MANIFEST, Registry, code, json, manifest, text};

const NOBODY: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

#[test]
fn the_door() {
    let registry = Registry::start();
    let answer = registry.get("/v2/");
    assert_eq!((answer.status, &*answer.body), (200, &b"{}"[..]));
    assert_eq!(
        answer.header("docker-distribution-api-version"),
        Some("registry/2.0")
    );
}

/// Every refusal has a status and a code in a body of JSON.
#[test]
fn refusals() {
    let registry = Registry::start();
    let image = registry.image("a/b", "one", b"layer");
    let check = |method: &str, path: &str, status: u16, expect: &str| {
        let answer = registry.ask(method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}: {}", text(&answer));
        if method != "HEAD" {
            assert_eq!(code(&answer), expect, "{method} {path}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
    };
    let blob = |digest: &str| format!("/v2/a/b/blobs/{digest}");
    check("GET", &blob(NOBODY), 404, "BLOB_UNKNOWN");
    check("HEAD", &blob(NOBODY), 404, "");
    check("DELETE", &blob(NOBODY), 404, "BLOB_UNKNOWN");
    check("DELETE", &blob(&image.layer), 405, "UNSUPPORTED");
    check("GET", &blob("sha256:xx"), 400, "DIGEST_INVALID");
    check("GET", &blob("sha512:aa"), 400, "DIGEST_INVALID");
    // digests are of SHA-256, and who pushes another is told
    let other = format!("sha512:{}", "0".repeat(128));
    let path = format!("/v2/a/b/blobs/uploads/?digest={other}");
    let answer = registry.ask("POST", &path, &[], b"x");
    let told = text(&answer);
    assert_eq!(
        (answer.status, &*code(&answer)),
        (400, "DIGEST_INVALID"),
        "{told}"
    );
    assert!(told.contains("only sha256 is supported"), "{told}");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let path = format!("/v2/a/b/manifests/{other}");
    let body = image.manifest.as_bytes();
    let answer = registry.ask("PUT", &path, &[("Content-Type", kind)], body);
    assert_eq!(answer.status, 400, "{}", text(&answer));
    let names_other = image.manifest.replace(&image.layer, &other);
    let answer = registry.put("a/b", "two", kind, &names_other);
    assert_eq!(answer.status, 400, "{}", text(&answer));
    assert!(
        text(&answer).contains("only sha256 is supported"),
        "{}",
        text(&answer)
    );
    check("POST", &blob(NOBODY), 405, "UNSUPPORTED");
    check(
        "GET",
        &format!("/v2/other/blobs/{}", image.layer),
        404,
        "BLOB_UNKNOWN",
    );
    check("GET", "/v2/a/b/manifests/two", 404, "MANIFEST_UNKNOWN");
    check("HEAD", "/v2/a/b/manifests/two", 404, "");
    check("GET", "/v2/a/b/manifests/.two", 400, "TAG_INVALID");
    check(
        "GET",
        &format!("/v2/a/b/manifests/{NOBODY}"),
        404,
        "MANIFEST_UNKNOWN",
    );
    check(
        "GET",
        &format!("/v2/c/manifests/{}", image.digest),
        404,
        "MANIFEST_UNKNOWN",
    );
    check("DELETE", "/v2/a/b/manifests/two", 404, "MANIFEST_UNKNOWN");
    check(
        "DELETE",
        &format!("/v2/a/b/manifests/{NOBODY}"),
        404,
        "MANIFEST_UNKNOWN",
    );
    check("PUT", "/v2/a/b/manifests/two", 400, "MANIFEST_INVALID");
    check("GET", "/v2/A/manifests/two", 400, "NAME_INVALID");
    check("GET", "/v2/a/../b/tags/list", 400, "NAME_INVALID");
    check("GET", "/v2/none/tags/list", 404, "NAME_UNKNOWN");
    check(
        "GET",
        "/v2/a/b/tags/list?n=-1",
        400,
        "PAGINATION_NUMBER_INVALID",
    );
    check("GET", "/v2/_catalog?n=x", 400, "PAGINATION_NUMBER_INVALID");
    check("GET", "/v2/a/b/referrers/x", 400, "DIGEST_INVALID");
    check("POST", "/v2/A/blobs/uploads/", 400, "NAME_INVALID");
    check(
        "GET",
        "/v2/a/b/blobs/uploads/none",
        404,
        "BLOB_UPLOAD_UNKNOWN",
    );
    check("PUT", "/v2/a/b/blobs/uploads/none", 400, "DIGEST_INVALID");
    check("GET", "/v2/a/b/c", 404, "NAME_UNKNOWN");
    check("GET", "/elsewhere", 404, "NAME_UNKNOWN");
    check("BREW", "/v2/", 405, "UNSUPPORTED");
}

#[test]
fn manifests_are_served_as_they_came() {
    let registry = Registry::start();
    let image = registry.image("a/b", "one", b"layer");
    let tag = format!("\"{}\"", image.digest);
    for path in [
        "/v2/a/b/manifests/one",
        &format!("/v2/a/b/manifests/{}", image.digest),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = registry.ask(method, path, &[("Accept", MANIFEST)], b"");
            assert_eq!(answer.status, 200, "{}", text(&answer));
            assert_eq!(answer.header("docker-content-digest"), Some(&*image.digest));
            assert_eq!(answer.header("content-type"), Some(MANIFEST));
            assert_eq!(answer.header("etag"), Some(&*tag));
            let length = image.manifest.len().to_string();
            assert_eq!(answer.header("content-length"), Some(&*length));
            let expect = if method == "GET" {
                &*image.manifest
            } else {
                ""
            };
            assert_eq!(answer.body, expect.as_bytes());
        }
        let known = registry.ask("GET", path, &[("If-None-Match", &tag)], b"");
        assert_eq!((known.status, known.body.len()), (304, 0));
    }
}

#[test]
fn blobs_and_their_ranges() {
    let registry = Registry::start();
    let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    let digest = registry.blob("a", &bytes);
    let path = format!("/v2/a/blobs/{digest}");
    let answer = registry.get(&path);
    assert!(answer.status == 200 && answer.body == bytes);
    assert_eq!(answer.header("docker-content-digest"), Some(&*digest));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    let head = registry.ask("HEAD", &path, &[], b"");
    assert_eq!(head.header("content-length"), Some("700000"));
    let range = |text: &str| registry.ask("GET", &path, &[("Range", text)], b"");
    for (text, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=131000-400000", 131_000, 400_001),
        ("bytes=699999-", 699_999, 700_000),
        ("bytes=-5", 699_995, 700_000),
        ("bytes=699990-800000", 699_990, 700_000),
    ] {
        let answer = range(text);
        assert_eq!(answer.status, 206, "{text}");
        assert!(answer.body == bytes[from..to], "{text}");
        let told = format!("bytes {from}-{}/700000", to - 1);
        assert_eq!(answer.header("content-range"), Some(&*told));
    }
    for text in ["bytes=5-2", "lines=0-1", "bytes=x"] {
        assert_eq!(range(text).status, 200, "{text}");
    }
    let beyond = range("bytes=700000-");
    assert_eq!(
        (beyond.status, code(&beyond)),
        (416, "RANGE_INVALID".to_owned())
    );
    assert_eq!(beyond.header("content-range"), Some("bytes */700000"));
    let several = range("bytes=0-2,100-103");
    assert_eq!(several.status, 206);
    let kind = several.header("content-type").unwrap();
    let mark = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let part = |range: &str| {
        format!(
            "\r\n--{mark}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/700000\r\n\r\n"
        )
    };
    let mut expect = part("0-2").into_bytes();
    expect.extend(&bytes[..3]);
    expect.extend(part("100-103").bytes());
    expect.extend(&bytes[100..104]);
    expect.extend(format!("\r\n--{mark}--\r\n").bytes());
    assert!(several.body == expect);
    let other = [("Range", "bytes=0-1"), ("If-Range", "\"other\"")];
    assert_eq!(registry.ask("GET", &path, &other, b"").status, 200);
    let tag = format!("\"{digest}\"");
    let same = [("Range", "bytes=0-1"), ("If-Range", &*tag)];
    assert_eq!(registry.ask("GET", &path, &same, b"").status, 206);
}

#[test]
fn mounts() {
    let registry = Registry::start();
    let digest = registry.blob("a", b"shared");
    let mount = |name: &str, query: &str| {
        let path = format!("/v2/{name}/blobs/uploads/?mount={digest}{query}");
        registry.ask("POST", &path, &[], b"")
    };
    let answer = mount("b", "&from=a");
    assert_eq!(answer.status, 201, "{}", text(&answer));
    let place = format!("/v2/b/blobs/{digest}");
    assert_eq!(answer.header("location"), Some(&*place));
    assert_eq!(registry.get(&place).body, b"shared");
    assert_eq!(mount("c", "").status, 201, "from anywhere");
    assert_eq!(
        mount("d", "&from=none").status,
        202,
        "an upload in its place"
    );
    assert_eq!(mount("d", "&from=..").status, 202);
    let path = format!("/v2/d/blobs/uploads/?mount={NOBODY}");
    assert_eq!(registry.ask("POST", &path, &[], b"").status, 202);
    assert_eq!(registry.files(), 1);
}

/// What a manifest may be, and what not.
#[test]
fn manifests_that_are_refused() {
    let registry = Registry::start_with(|config, _| {
        config.manifest_max_size = registry::config::Size(4096);
    });
    let image = registry.image("a", "one", b"layer");
    let empty = registry.blob("a", b"{}");
    let layer = (&*image.layer, 5);
    let check = |kind: &str, text: &str, status: u16, expect: &str| {
        let answer = registry.put("a", "two", kind, text);
        assert_eq!(answer.status, status, "{text}: {}", self::text(&answer));
        assert_eq!(code(&answer), expect, "{text}");
    };
    let missing = manifest(&empty, &[(NOBODY, 5)], "");
    check(MANIFEST, &missing, 400, "MANIFEST_BLOB_UNKNOWN");
    let size = manifest(&empty, &[(&image.layer, 6)], "");
    check(MANIFEST, &size, 400, "MANIFEST_INVALID");
    let both = manifest(&empty, &[layer], r#","manifests":[]"#);
    check(MANIFEST, &both, 400, "MANIFEST_INVALID");
    check(INDEX, &image.manifest, 400, "MANIFEST_INVALID");
    check("text/plain", "{}", 400, "MANIFEST_INVALID");
    let index = |digest: &str, size: usize| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size}}}]}}"#
        )
    };
    check(INDEX, &index(NOBODY, 5), 400, "MANIFEST_BLOB_UNKNOWN");
    check(INDEX, &index(&image.layer, 5), 400, "MANIFEST_BLOB_UNKNOWN");
    let huge = manifest(&empty, &[layer], &format!(r#","x":"{}""#, "x".repeat(4096)));
    check(MANIFEST, &huge, 413, "SIZE_INVALID");
    let good = index(&image.digest, image.manifest.len());
    assert_eq!(registry.put("a", "two", INDEX, &good).status, 201);
    let other = registry.put("a", NOBODY, INDEX, &good);
    assert_eq!(
        (other.status, code(&other)),
        (400, "DIGEST_INVALID".to_owned())
    );
    let child = format!("/v2/a/manifests/{}", image.digest);
    let used = registry.ask("DELETE", &child, &[], b"");
    assert_eq!((used.status, code(&used)), (405, "UNSUPPORTED".to_owned()));
    let foreign = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{empty}","size":2}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{NOBODY}","size":5,"urls":["https://example.com/x"]}}]}}"#
    );
    assert_eq!(registry.put("a", "foreign", MANIFEST, &foreign).status, 201);
}

#[test]
fn tags_in_pages() {
    let registry = Registry::start();
    let image = registry.image("a", "v2", b"layer");
    for tag in ["B", "a", "C", "c", "v10"] {
        registry.manifest("a", tag, &image.manifest);
    }
    let page = |query: &str| {
        let answer = registry.get(&format!("/v2/a/tags/list{query}"));
        assert_eq!(answer.status, 200);
        let link = answer.header("link").map(str::to_owned);
        (json(&answer)["tags"].clone(), link)
    };
    let all = serde_json::json!(["a", "B", "C", "c", "v10", "v2"]);
    assert_eq!(page(""), (all, None), "without regard to case");
    let (tags, link) = page("?n=2");
    assert_eq!(tags, serde_json::json!(["a", "B"]));
    assert_eq!(
        link.as_deref(),
        Some("</v2/a/tags/list?last=B&n=2>; rel=\"next\"")
    );
    assert_eq!(page("?n=2&last=B").0, serde_json::json!(["C", "c"]));
    assert_eq!(
        page("?n=2&last=c"),
        (serde_json::json!(["v10", "v2"]), None)
    );
    assert_eq!(
        page("?last=nothing-there").0,
        serde_json::json!(["v10", "v2"])
    );
    assert_eq!(page("?n=0").0, serde_json::json!([]));
    assert_eq!(page("?n=9&last=v2").0, serde_json::json!([]));
}

#[test]
fn the_catalog_in_pages() {
    let registry = Registry::start();
    for name in ["b", "a/x", "c"] {
        registry.blob(name, b"x");
    }
    let page = |query: &str| {
        let answer = registry.get(&format!("/v2/_catalog{query}"));
        let link = answer.header("link").map(str::to_owned);
        (json(&answer)["repositories"].clone(), link)
    };
    assert_eq!(page("").0, serde_json::json!(["a/x", "b", "c"]));
    let (names, link) = page("?n=2");
    assert_eq!(names, serde_json::json!(["a/x", "b"]));
    assert_eq!(
        link.as_deref(),
        Some("</v2/_catalog?last=b&n=2>; rel=\"next\"")
    );
    assert_eq!(page("?n=2&last=b"), (serde_json::json!(["c"]), None));
}

#[test]
fn referrers() {
    let registry = Registry::start();
    let image = registry.image("a", "one", b"layer");
    let empty = registry.blob("a", b"{}");
    let subject = format!(
        r#","subject":{{"mediaType":"{MANIFEST}","digest":"{}","size":{}}}"#,
        image.digest,
        image.manifest.len()
    );
    let list = |query: &str| registry.get(&format!("/v2/a/referrers/{}{query}", image.digest));
    let none = list("");
    assert_eq!(
        (none.status, none.header("content-type")),
        (200, Some(INDEX))
    );
    assert_eq!(json(&none)["manifests"], serde_json::json!([]));
    let push = |more: &str| {
        let text = manifest(&empty, &[], &format!("{subject}{more}"));
        let digest = storage::digest_of(text.as_bytes()).to_string();
        let answer = registry.put("a", &digest, MANIFEST, &text);
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("oci-subject"), Some(&*image.digest));
        digest
    };
    let signature = push(r#","artifactType":"x/signature","annotations":{"k":"v"}"#);
    let bare = push("");
    let all = json(&list(""));
    assert_eq!(all["mediaType"], INDEX);
    assert_eq!(all["manifests"].as_array().unwrap().len(), 2);
    let filtered = list("?artifactType=x/signature");
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    let found = json(&filtered)["manifests"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["digest"], signature);
    assert_eq!(found[0]["artifactType"], "x/signature");
    assert_eq!(found[0]["annotations"]["k"], "v");
    let by_config = json(&list(&format!(
        "?artifactType={}",
        oci::image::media_type::OCI_CONFIG
    )));
    assert_eq!(by_config["manifests"][0]["digest"], bare);
    let gone = registry.ask("DELETE", &format!("/v2/a/manifests/{bare}"), &[], b"");
    assert_eq!(gone.status, 202);
    assert_eq!(json(&list(""))["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn deletion() {
    let mut registry = Registry::start();
    let image = registry.image("a", "one", b"layer");
    registry.manifest("a", "two", &image.manifest);
    let delete = |registry: &Registry, path: &str| registry.ask("DELETE", path, &[], b"").status;
    assert_eq!(delete(&registry, "/v2/a/manifests/one"), 202);
    assert_eq!(registry.get("/v2/a/manifests/one").status, 404);
    assert_eq!(registry.get("/v2/a/manifests/two").status, 200);
    let path = format!("/v2/a/manifests/{}", image.digest);
    registry.reload(|config| config.delete = false);
    assert_eq!(delete(&registry, &path), 405);
    registry.reload(|config| (config.delete, config.read_only) = (true, true));
    assert_eq!(delete(&registry, &path), 405);
    let refused = registry.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    assert_eq!(
        (refused.status, code(&refused)),
        (405, "UNSUPPORTED".to_owned())
    );
    assert_eq!(registry.get("/v2/a/manifests/two").status, 200);
    registry.reload(|config| config.read_only = false);
    assert_eq!(delete(&registry, &path), 202);
    assert_eq!(
        registry.get("/v2/a/manifests/two").status,
        404,
        "its tags go with it"
    );
    assert_eq!(registry.get(&path).status, 404);
    let blob = format!("/v2/a/blobs/{}", image.layer);
    assert_eq!(delete(&registry, &blob), 202);
    assert_eq!(registry.get(&blob).status, 404);
}
