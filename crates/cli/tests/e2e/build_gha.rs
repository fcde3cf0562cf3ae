//! GitHub's cache service as a cache of builds, with a small service of the test's own in both versions.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::{Value, json};
use testkit::docker::Outcome;
use testkit::engine::Engine;

use crate::bench::engine;

/// The end of the token that the service wants, and that it must not see where entries lie.
const SIGNATURE: &str = "signature-of-this-test";

/// A token as runners have it: it names the branches whose entries it gives.
fn token() -> String {
    let access =
        r#"[{"Scope":"refs/heads/own","Permission":3},{"Scope":"refs/heads/main","Permission":1}]"#;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let [head, claims] = [json!({"alg": "none"}), json!({"ac": access})];
    let [head, claims] = [head, claims].map(|part| engine.encode(part.to_string()));
    format!("{head}.{claims}.{SIGNATURE}")
}

/// The key of an entry, its bytes, and the blocks of which it is to be made.
type Coming = (String, Vec<u8>, HashMap<String, Vec<u8>>);

#[derive(Default)]
struct Store {
    /// Complete entries, the last one last.
    entries: Vec<(String, Vec<u8>)>,
    /// Entries that are still coming.
    coming: Vec<Coming>,
    wrong: Vec<String>,
    /// Requests that are still to be sent away.
    busy: usize,
    /// Requests that brought bytes of entries.
    pieces: usize,
}

struct Service {
    port: u16,
    store: Arc<Mutex<Store>>,
}

struct Asked {
    method: String,
    path: String,
    query: HashMap<String, String>,
    authorization: Option<String>,
    range: String,
    body: Vec<u8>,
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut authorization, mut range) = (0, None, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            "content-range" => value.clone_into(&mut range),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter_map(|part| part.split_once('='));
    Some(Asked {
        method,
        path: path.to_owned(),
        query: query
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect(),
        authorization,
        range,
        body,
    })
}

impl Service {
    fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let store = Arc::<Mutex<Store>>::default();
        let own = Arc::clone(&store);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let store = Arc::clone(&own);
                std::thread::spawn(move || {
                    if let Some(asked) = read(&stream) {
                        let (status, body) = answer(&store, port, &asked);
                        let length = body.len();
                        let head = format!(
                            "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                        );
                        let mut stream = &stream;
                        drop(stream.write_all(head.as_bytes()));
                        drop(stream.write_all(&body));
                    }
                });
            }
        });
        Self { port, store }
    }

    fn keys(&self) -> Vec<String> {
        let store = self.store.lock().unwrap();
        assert!(store.wrong.is_empty(), "{:?}", store.wrong);
        store.entries.iter().map(|(key, _)| key.clone()).collect()
    }
}

fn answer(store: &Mutex<Store>, port: u16, asked: &Asked) -> (u16, Vec<u8>) {
    let mut store = store.lock().unwrap();
    let signed = asked.path.starts_with("/blob/") || asked.path.starts_with("/upload/");
    let right = match signed {
        true => asked.authorization.is_none(),
        false => asked.authorization.as_deref() == Some(&format!("Bearer {}", token())),
    };
    if !right {
        let wrong = format!("{} {}: {:?}", asked.method, asked.path, asked.authorization);
        store.wrong.push(wrong);
        return (401, b"who are you?".to_vec());
    }
    if store.busy > 0 {
        store.busy -= 1;
        return (429, Vec::new());
    }
    let json_body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let text = |value: &Value| (200, value.to_string().into_bytes());
    let last = asked.path.rsplit('/').next().unwrap();
    let number = || last.parse::<usize>().unwrap();
    let find = |store: &Store, key: &str| {
        let mut found = store.entries.iter().enumerate().rev();
        let found = found.find(|(_, (own, _))| own.starts_with(key));
        found.map(|(at, (own, _))| (own.clone(), format!("http://127.0.0.1:{port}/blob/{at}")))
    };
    let reserve = |store: &mut Store, key: &str| {
        let taken = store.entries.iter().any(|(own, _)| own == key);
        (!taken).then(|| {
            let entry = (key.to_owned(), Vec::new(), HashMap::new());
            store.coming.push(entry);
            store.coming.len() - 1
        })
    };
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/_apis/artifactcache/cache") => match find(&store, &asked.query["keys"]) {
            Some((key, place)) => text(&json!({"cacheKey": key, "archiveLocation": place})),
            None => (204, Vec::new()),
        },
        ("POST", "/_apis/artifactcache/caches") => {
            match reserve(&mut store, json_body["key"].as_str().unwrap()) {
                Some(id) => (201, json!({"cacheId": id}).to_string().into_bytes()),
                None => (409, Vec::new()),
            }
        }
        ("PATCH", _) => {
            let id = number();
            let coming = &mut store.coming[id].1;
            let begin = coming.len();
            coming.extend_from_slice(&asked.body);
            assert_eq!(asked.range, format!("bytes {begin}-{}/*", coming.len() - 1));
            store.pieces += 1;
            (204, Vec::new())
        }
        ("POST", path) if path.starts_with("/_apis/") => {
            let (key, bytes, _) = store.coming[number()].clone();
            assert_eq!(json_body["size"].as_u64(), Some(bytes.len() as u64));
            store.entries.push((key, bytes));
            (204, Vec::new())
        }
        ("GET", _) => (200, store.entries[number()].1.clone()),
        ("PUT", _) if asked.query["comp"] == "block" => {
            let name = asked.query["blockid"].clone();
            let id = number();
            store.coming[id].2.insert(name, asked.body.clone());
            store.pieces += 1;
            (201, Vec::new())
        }
        ("PUT", _) => {
            let list = String::from_utf8(asked.body.clone()).unwrap();
            let id = number();
            let names = list.split("<Latest>").skip(1);
            for name in names.map(|rest| rest.split("</Latest>").next().unwrap()) {
                let block = store.coming[id].2[name].clone();
                store.coming[id].1.extend(block);
            }
            (201, Vec::new())
        }
        ("POST", _) if last == "GetCacheEntryDownloadURL" => {
            match find(&store, json_body["key"].as_str().unwrap()) {
                Some((key, place)) => {
                    text(&json!({"ok": true, "matched_key": key, "signed_download_url": place}))
                }
                None => text(&json!({"ok": false})),
            }
        }
        ("POST", _) if last == "CreateCacheEntry" => {
            match reserve(&mut store, json_body["key"].as_str().unwrap()) {
                Some(id) => {
                    let place = format!("http://127.0.0.1:{port}/upload/{id}?sig=1");
                    text(&json!({"ok": true, "signed_upload_url": place}))
                }
                None => (409, Vec::new()),
            }
        }
        ("POST", _) if last == "FinalizeCacheEntryUpload" => {
            let key = json_body["key"].as_str().unwrap();
            let found = store.coming.iter().find(|(own, _, _)| own == key);
            let (key, bytes, _) = found.unwrap().clone();
            let size = bytes.len().to_string();
            assert_eq!(json_body["size_bytes"].as_str(), Some(size.as_str()));
            store.entries.push((key, bytes));
            text(&json!({"ok": true, "entry_id": "1"}))
        }
        _ => (404, Vec::new()),
    }
}

/// What is tried with one version of the interface.
struct Trial {
    engine: Engine,
    service: Service,
    folder: PathBuf,
    attrs: String,
}

impl Trial {
    fn new(version: &str, url: &str) -> Self {
        let engine = engine();
        let folder = engine.home().join("gha");
        fs::create_dir_all(&folder).unwrap();
        // one layer takes several requests
        let dockerfile = "FROM busybox\nRUN head -c 20000000 /dev/urandom >/big\nRUN echo once >/made\nRUN echo twice >>/made\n";
        fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        let service = Service::serve();
        let attrs = format!(
            "type=gha,version={version},{url}=http://127.0.0.1:{}/,token={},scope=own",
            service.port,
            token()
        );
        Self {
            engine,
            service,
            folder,
            attrs,
        }
    }

    fn build(&self, flags: &str) -> Outcome {
        let line = format!(
            "buildx build --progress plain {flags} {}",
            self.folder.display()
        );
        self.engine.docker(&line)
    }

    /// Removes an image and what was built.
    fn forget(&self, image: &str) {
        self.engine.docker(&format!("image rm -f {image}")).ok();
        self.engine.docker("buildx prune --force --all").ok();
    }

    /// Damages the entries whose keys begin so.
    fn damage(&self, keys: &str) {
        let mut store = self.service.store.lock().unwrap();
        let entries = store.entries.iter_mut();
        for (_, bytes) in entries.filter(|(key, _)| key.starts_with(keys)) {
            bytes.clear();
            bytes.extend_from_slice(b"damaged");
        }
    }

    fn run(&self) {
        let to = format!("--cache-to {},mode=max", self.attrs);
        self.service.store.lock().unwrap().busy = 2;
        self.build(&format!("{to} -t gha:1")).ok();
        let keys = self.service.keys();
        let has = |begin: &str| keys.iter().any(|key| key.starts_with(begin));
        assert!(
            has("index-gorae-own-1-") && has("buildkit-blob-1-sha256:"),
            "{keys:?}"
        );
        let pieces = self.service.store.lock().unwrap().pieces;
        assert!(pieces > keys.len(), "{pieces} pieces of {keys:?}");
        // the second time only the index is written anew
        self.build(&format!("{to} -t gha:1")).ok();
        assert_eq!(self.service.keys().len(), keys.len() + 1);
        self.forget("gha:1");
        let from = format!("--cache-from {}", self.attrs);
        let told = self.build(&format!("{from} -t gha:2"));
        told.ok();
        assert!(told.stderr.matches("CACHED").count() >= 3, "{told:?}");
        let made = self.engine.docker("run --rm gha:2 cat /made");
        made.ok();
        assert_eq!(made.stdout, "once\ntwice\n");
        self.forget("gha:2");
        // the command line of the engine, which takes the rest from the runner's environment
        let line = format!(
            "build --progress plain {from} -t gha:3 {}",
            self.folder.display()
        );
        let told = self.engine.gorae(&line);
        told.ok();
        assert!(told.stderr.matches("CACHED").count() >= 3, "{told:?}");
        self.forget("gha:3");
        // layers that are not what they should be get into no image
        self.damage("buildkit-blob-");
        let told = self.build(&format!("{from} -t gha:4"));
        if told.code == 0 {
            self.engine
                .docker("run --rm gha:4 cat /made")
                .prints("once\ntwice");
            self.forget("gha:4");
        }
        // an index that makes no sense brings nothing
        self.damage("index-");
        self.build(&format!("{from} -t gha:5")).ok();
        self.forget("gha:5");
        assert!(self.service.keys().len() > keys.len());
        let refused = to.replace(SIGNATURE, "wrong");
        let told = self.build(&refused);
        assert!(
            told.code != 0 && told.stderr.contains("who are you?"),
            "{told:?}"
        );
        self.build(&format!("{refused},ignore-error=true")).ok();
        self.told_nobody();
    }

    /// The token is in no log and in no record.
    fn told_nobody(&self) {
        let past = self.engine.docker("buildx history ls --format {{.Ref}}");
        past.ok();
        let mut said = self.engine.log();
        for one in past.stdout.lines() {
            for asked in ["logs", "inspect"] {
                let told = self.engine.docker(&format!("buildx history {asked} {one}"));
                said.push_str(&told.stdout);
                said.push_str(&told.stderr);
            }
        }
        assert!(!said.contains(SIGNATURE), "{said}");
    }
}

#[test]
fn the_first_version_of_githubs_cache_service() {
    Trial::new("1", "url").run();
}

#[test]
fn the_second_version_of_githubs_cache_service() {
    Trial::new("2", "url_v2").run();
}

#[test]
fn a_cache_service_that_lies() {
    let engine = engine();
    let folder = engine.home().join("lies");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("Dockerfile"),
        "FROM busybox\nRUN echo made >/made\n",
    )
    .unwrap();
    let place = |url: &str| {
        json!({"cacheKey": "index-gorae-own-1-e3b0c442#1", "archiveLocation": url}).to_string()
    };
    let endless = "x".repeat(40 << 20);
    for answer in [
        "no json".to_owned(),
        "[]".to_owned(),
        json!({"cacheKey": 1, "archiveLocation": []}).to_string(),
        place("file:///etc/passwd"),
        place("http://"),
        place("http://127.0.0.1:1/"),
        endless,
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                drop(read(&stream));
                let mut stream = &stream;
                let head = format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", answer.len());
                drop(stream.write_all(head.as_bytes()));
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        let attrs = format!("type=gha,version=1,url=http://127.0.0.1:{port},token=t,scope=own");
        let line = |flag: &str| {
            let folder = folder.display();
            format!("buildx build --progress plain {flag} {attrs} -t lies:1 {folder}")
        };
        // it brings nothing, and the build goes on
        engine.docker(&line("--cache-from")).ok();
        let told = engine.docker(&line("--cache-to"));
        assert_ne!(told.code, 0, "{told:?}");
    }
}
