//! What is read out of files, and what is refused.

use std::fs;
use std::path::Path;

use super::*;

fn own(folder: &Path) -> Hosts {
    Hosts::new(HostFiles {
        own: vec![folder.to_owned()],
        containerd: Vec::new(),
    })
}

/// The rules of a registry by one file of our own.
fn parsed(text: &str, domain: &str) -> Result<Rules, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.toml"), text).unwrap();
    let rules = own(folder.path()).rules(domain);
    let at = folder.path().display().to_string();
    rules
        .map(|rules| Rules::clone(&rules))
        .map_err(|error| error.to_string().replace(&at, "DIR"))
}

#[test]
fn own_files() {
    let text = r#"
        [[registry]]
        host = "docker.io"
        ca = "ca.pem"
        cert = "/abs/c.pem"
        key = "k.pem"
        headers = { X-One = "1", X-Many = ["a", "b"] }

        [[registry.mirror]]
        address = "https://b.example/proxy/"

        [[registry.mirror]]
        address = "http://a.example:5000/v2/hub"
        override-path = true
        capabilities = ["pull"]
        skip-verify = true

        [[registry]]
        host = "*.corp.example"
        plain-http = true

        [[registry]]
        host = "*"
    "#;
    let rules = parsed(text, "docker.io").unwrap();
    let own = rules.own.unwrap();
    assert!(own.ca[0].ends_with("ca.pem") && own.ca[0].is_absolute());
    let (cert, key) = own.identity.unwrap();
    assert_eq!(cert, Path::new("/abs/c.pem"));
    assert!(key.ends_with("k.pem"));
    assert_eq!(own.headers.get_all("x-many").iter().count(), 2);
    assert!((own.address, own.plain_http) == (None, false));
    let shown: Vec<_> = rules.mirrors.iter().map(Site::key).collect();
    assert_eq!(
        shown,
        ["https://b.example/proxy/v2", "http://a.example:5000/v2/hub"]
    );
    let last = &rules.mirrors[1];
    assert!(last.pull && !last.resolve && last.skip_verify);
    assert!(
        parsed(text, "x.corp.example")
            .unwrap()
            .own
            .unwrap()
            .plain_http
    );
    assert!(
        !parsed(text, "corp.example")
            .unwrap()
            .own
            .unwrap()
            .plain_http
    );
    assert_eq!(parsed("", "docker.io").unwrap(), Rules::default());
}

#[test]
fn mistakes_in_own_files_are_named() {
    for (text, expect) in [
        (
            "[[registry]]\nhost = 'a'\nmirorr = []",
            "DIR/a.toml:3: unknown key \"mirorr\": known are host, address",
        ),
        (
            "[[registry]]\nhost = 'a'\n[[registry.mirror]]\naddress = 'https://m'\ncapability = []",
            "DIR/a.toml:5: unknown key \"capability\"",
        ),
        (
            "registries = []",
            "DIR/a.toml:1: unknown key \"registries\"",
        ),
        (
            "[registry]\nhost = 'a'",
            "registry must be a list of tables",
        ),
        (
            "[[registry]]\nplain-http = true",
            "a registry needs its host",
        ),
        (
            "[[registry]]\nhost = 5",
            ":2: host must be a text in quotes, not integer",
        ),
        ("[[registry]]\nhost = 'https://a'", "is no registry's name"),
        (
            "[[registry]]\nhost = 'a'\n[[registry.mirror]]\naddress = 'm.example'",
            ":4: \"m.example\" is no http or https address",
        ),
        (
            "[[registry]]\nhost = 'a'\n[[registry.mirror]]\naddress = 'https://u:p@m'",
            "is no http or https address",
        ),
        (
            "[[registry]]\nhost = 'a'\n[[registry.mirror]]\naddress = 'https://m'\ncapabilities = ['push']",
            ":5: capability \"push\" is not pull or resolve",
        ),
        ("[[registry]]\nhost = 'a'\ncert = 'c'", "are given together"),
        (
            "[[registry]]\nhost = 'a'\nheaders = { 'a b' = 'c' }",
            "header \"a b\" has no valid name",
        ),
        (
            "[[registry]]\nhost = 'a'\nheaders = { a = \"b\\nc\" }",
            "header \"a\" has no valid value",
        ),
        (
            "[[registry]]\nhost = 'a'\naddress = 'http://b'\nplain-http = true",
            "says by itself",
        ),
        (
            "[[registry]]\nhost = 'a'\n[[registry]]\nhost = 'a'",
            "named already in",
        ),
        ("[[registry]\n", "DIR/a.toml:1: "),
    ] {
        // whichever registry is asked for, unless only the two together are wrong
        let error = parsed(text, "a").unwrap_err();
        assert!(error.contains(expect), "{text}: {error}");
    }
}

#[test]
fn containerd_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        fs::create_dir_all(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("hosts.toml"), text).unwrap();
    };
    at(
        "docker.io",
        r#"
        server = "https://registry-1.docker.io"
        ca = ["own.pem"]
        dial_timeout = "3s"

        [host."https://z.example"]
          capabilities = ["pull", "resolve"]
          client = [["c.pem", "k.pem"], ["d.pem", ""]]
          [host."https://z.example".header]
            x-one = ["1", "2"]

        [host."https://a.example/prefix"]
          skip_verify = true

        [host."localhost:5000/v2/hub"]
          capabilities = ["pull"]
          override_path = true
        "#,
    );
    at("reg.example_5000_", "server = 'http://reg.example:5000'");
    at("_default", "[host.'https://all.example']");
    let hosts = Hosts::new(HostFiles {
        own: Vec::new(),
        containerd: vec![folder.path().to_owned()],
    });
    let rules = hosts.rules("docker.io").unwrap();
    let keys: Vec<_> = rules.mirrors.iter().map(Site::key).collect();
    assert_eq!(
        keys,
        [
            "https://z.example/v2",
            "https://a.example/prefix/v2",
            "http://localhost:5000/v2/hub"
        ]
    );
    let (cert, key) = rules.mirrors[0].identity.clone().unwrap();
    assert!(cert.ends_with("docker.io/c.pem") && key.ends_with("k.pem"));
    assert_eq!(rules.mirrors[0].headers.get_all("X-One").iter().count(), 2);
    assert!(rules.mirrors[1].skip_verify && !rules.mirrors[2].resolve);
    assert_eq!(
        hosts.site("https://z.example/v2").unwrap().file,
        rules.mirrors[0].file
    );
    let origin = Origin::of(&"https://a.example/x".parse().unwrap()).unwrap();
    assert!(hosts.at(&origin).unwrap().skip_verify);
    let other = hosts.rules("reg.example:5000").unwrap();
    let own = other.own.clone().unwrap();
    assert_eq!(own.address.as_deref(), Some("http://reg.example:5000"));
    let other = hosts.rules("quay.io").unwrap();
    assert_eq!(other.mirrors[0].key(), "https://all.example/v2");
    // names never lead out of the folder
    assert_eq!(folders_of("../x"), ["_default"]);
}

fn folders_of(domain: &str) -> Vec<String> {
    super::containerd::folders(domain)
}

#[test]
fn mistakes_in_containerd_files_are_named() {
    for (text, expect) in [
        ("server = 5", "server must be a text"),
        ("server = 'ftp://a'", "is no http or https address"),
        ("[host]\n'https://a' = 1", "must be a table"),
        (
            "[host.'https://a']\ncapabilities = ['pul']",
            "unknown capability \"pul\"",
        ),
        ("[host.'https://a']\nclient = [['a','b','c']]", "a pair is"),
        (
            "[host.'https://a']\nskip_verify = 'yes'",
            "must be true or false",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/hosts.toml"), text).unwrap();
        let hosts = Hosts::new(HostFiles {
            own: Vec::new(),
            containerd: vec![folder.path().to_owned()],
        });
        let error = hosts.rules("a").unwrap_err().to_string();
        assert!(
            error.contains(expect) && error.contains("a/hosts.toml:"),
            "{text}: {error}"
        );
    }
}
