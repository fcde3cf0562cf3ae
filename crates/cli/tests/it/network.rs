//! Networks: what each verb sends, says and shows; `network.json` holds the requests and messages of Docker's own client
//! for the same words.

use crate::engine::{Answer, Engine, ok, refusal};
use serde_json::{Value, json};

fn words(case: &Value) -> Vec<&str> {
    let words = case[0].as_array().unwrap();
    words.iter().map(|word| word.as_str().unwrap()).collect()
}

fn check_recorded(case: &Value) {
    let engine = Engine::new(|line| {
        if line == "POST /networks/create" {
            Answer::Plain(201, r#"{"Id":"netid","Warning":""}"#.to_owned())
        } else {
            ok("{}")
        }
    });
    let (words, expect) = (words(case), &case[1]);
    let seen = engine.gorae(&words, "");
    assert_eq!(
        (
            i64::from(seen.code),
            seen.out.as_str(),
            seen.errors.trim_end()
        ),
        (
            expect["code"].as_i64().unwrap(),
            expect["out"].as_str().unwrap(),
            expect["err"].as_str().unwrap().trim_end()
        ),
        "{words:?}"
    );
    let asked = engine.asked();
    let Some(line) = expect["asked"].as_str() else {
        assert_eq!(asked.len(), 0, "{words:?}: {asked:?}");
        return;
    };
    let (last, body) = asked.last().unwrap();
    assert_eq!(last, line, "{words:?}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        subnets_sorted(body),
        subnets_sorted(expect["body"].clone()),
        "{words:?}"
    );
}

/// Docker's client sends subnets in an order of chance.
fn subnets_sorted(mut body: Value) -> Value {
    if let Some(Value::Array(subnets)) = body.pointer_mut("/IPAM/Config") {
        subnets.sort_by_key(Value::to_string);
    }
    body
}

#[test]
fn requests_and_messages_are_those_of_dockers_client() {
    let recorded: Value = serde_json::from_str(include_str!("network.json")).unwrap();
    for case in recorded.as_array().unwrap() {
        check_recorded(case);
    }
}

#[test]
fn warnings_of_create_are_told() {
    let engine =
        Engine::new(|_line| Answer::Plain(201, r#"{"Id":"netid","Warning":"odd"}"#.to_owned()));
    let seen = engine.gorae(&["network", "create", "a"], "");
    assert_eq!((seen.code, seen.out.as_str()), (0, "netid\n"));
    assert_eq!(seen.errors, "WARNING: odd\n");
}

#[test]
fn removing() {
    let check = |words: &[&str], answer: fn() -> Answer, code: i32, out: &str, errors: &str| {
        let engine = Engine::new(move |line| {
            if line == "DELETE /networks/a" {
                answer()
            } else {
                Answer::Plain(204, String::new())
            }
        });
        let seen = engine.gorae(words, "");
        assert_eq!((seen.code, seen.out.as_str()), (code, out), "{words:?}");
        assert!(
            seen.errors.starts_with(errors) && seen.errors.is_empty() == errors.is_empty(),
            "{words:?}: {}",
            seen.errors
        );
        let mut lines = engine.lines();
        lines.sort();
        assert_eq!(lines, ["DELETE /networks/a", "DELETE /networks/b"]);
    };
    let done = || Answer::Plain(204, String::new());
    check(&["network", "rm", "a", "b"], done, 0, "a\nb\n", "");
    check(&["network", "remove", "a", "b"], done, 0, "a\nb\n", "");
    let absent = || refusal(404, "network a not found");
    check(
        &["network", "rm", "a", "b"],
        absent,
        1,
        "b\n",
        "Error response from daemon: network a not found\n\nHint: List networks with",
    );
    check(&["network", "rm", "-f", "a", "b"], absent, 0, "b\n", "");
    let busy = || {
        let why =
            "error while removing network: network a has active endpoints (name:\"c\" id:\"1\")";
        refusal(403, why)
    };
    check(
        &["network", "rm", "-f", "a", "b"],
        busy,
        1,
        "b\n",
        "Error response from daemon: error while removing network: network a has active endpoints (name:\"c\" id:\"1\")\n\nHint: See who is connected",
    );
}

#[test]
fn pruning() {
    let check = |words: &[&str], input: &str, out: &str, lines: &[&str]| {
        let engine = Engine::new(|_line| ok(r#"{"NetworksDeleted":["a","b"]}"#));
        let seen = engine.gorae(words, input);
        assert_eq!((seen.code, seen.out.as_str()), (0, out), "{words:?}");
        assert_eq!(engine.lines(), lines, "{words:?}");
    };
    let question = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue? [y/N] ";
    let gone = "Deleted Networks:\na\nb\n\n";
    let asked = "POST /networks/prune";
    check(&["network", "prune"], "n\n", question, &[]);
    check(
        &["network", "prune"],
        "y\n",
        &format!("{question}{gone}"),
        &[asked],
    );
    check(&["network", "prune", "-f"], "", gone, &[asked]);
    check(
        &[
            "network",
            "prune",
            "-f",
            "--filter",
            "until=24h",
            "--filter",
            "label!=x",
        ],
        "",
        gone,
        &[
            "POST /networks/prune?filters=%7B%22label%21%22%3A%7B%22x%22%3Atrue%7D%2C%22until%22%3A%7B%2224h%22%3Atrue%7D%7D",
        ],
    );
}

#[test]
fn listing() {
    let check = |words: &[&str], expect: &str| {
        let engine = Engine::new(|_line| {
            ok(
                r#"[{"Name":"br10","Id":"0123456789abcdef","Created":"2026-11-21T14:36:00.5Z","Scope":"local","Driver":"bridge","EnableIPv4":true,"EnableIPv6":false,"Internal":false,"Labels":{"a":"1","b":"2"}},{"Name":"br9","Id":"1123456789abcdef","Created":"2026-11-21T14:36:00+02:00","Scope":"local","Driver":"null","EnableIPv6":true,"Internal":true}]"#,
            )
        });
        let words = [&["network", "ls"], words].concat();
        let seen = engine.gorae(&words, "");
        assert_eq!((seen.code, seen.out.as_str()), (0, expect), "{words:?}");
    };
    check(
        &[],
        "NETWORK ID     NAME      DRIVER    SCOPE\n1123456789ab   br9       null      local\n0123456789ab   br10      bridge    local\n",
    );
    check(
        &["-q", "--no-trunc"],
        "1123456789abcdef\n0123456789abcdef\n",
    );
    check(
        &["--format", "json"],
        "{\"CreatedAt\":\"2026-11-21 14:36:00 +0200 +0200\",\"Driver\":\"null\",\"ID\":\"1123456789ab\",\"IPv4\":\"false\",\"IPv6\":\"true\",\"Internal\":\"true\",\"Labels\":\"\",\"Name\":\"br9\",\"Scope\":\"local\"}\n{\"CreatedAt\":\"2026-11-21 14:36:00.5 +0000 UTC\",\"Driver\":\"bridge\",\"ID\":\"0123456789ab\",\"IPv4\":\"true\",\"IPv6\":\"false\",\"Internal\":\"false\",\"Labels\":\"a=1,b=2\",\"Name\":\"br10\",\"Scope\":\"local\"}\n",
    );
    check(
        &["--format", "{{.Name}}={{.Label \"a\"}}"],
        "br9=\nbr10=1\n",
    );
}

#[test]
fn inspecting() {
    let engine = Engine::new(|_line| ok("{}"));
    engine.gorae(&["network", "inspect", "a"], "");
    engine.gorae(&["network", "inspect", "-v", "a"], "");
    assert_eq!(
        engine.lines(),
        ["GET /networks/a", "GET /networks/a?verbose=1"]
    );
}

fn audit() -> Engine {
    Engine::new(|_line| {
        let port = |host: &str, host_port: u16, from: Value| {
            json!({
                "Container": "web", "ContainerID": "0123456789abcdef", "Network": "front",
                "Protocol": "tcp", "HostIP": host, "HostPort": host_port,
                "ContainerIP": "172.18.0.2", "ContainerPort": 80, "From": from,
            })
        };
        let from = |who: &str, reachable: bool, rule: &str| json!({"Who": who, "Reachable": reachable, "Rule": rule});
        let everyone = json!([
            from("other hosts", true, "map published"),
            from("this host", true, "map published")
        ]);
        let answer = json!({
            "Policy": "docker",
            "Ports": [port("::", 8080, everyone), port("", 0, json!([from("other hosts", false, "not published")]))],
            "Warnings": ["ufw drops forwarded packets"],
        });
        ok(&answer.to_string())
    })
}

#[test]
fn auditing() {
    let engine = audit();
    let seen = engine.gorae(&["network", "audit"], "");
    assert_eq!((seen.code, seen.errors.as_str()), (0, ""));
    assert_eq!(
        seen.out,
        "CONTAINER   NETWORK   PORT      PUBLISHED   FROM          REACHABLE   RULE\n\
         web         front     80/tcp    [::]:8080   other hosts   yes         map published\n\
         web         front     80/tcp    [::]:8080   this host     yes         map published\n\
         web         front     80/tcp    -           other hosts   no          not published\n\
         \nPublish policy: docker\n\
         WARNING: ufw drops forwarded packets\n"
    );
    assert_eq!(engine.lines(), ["GET /gorae/network/audit"]);
    let format = "{{.ContainerID}} {{.HostIP}} {{.ContainerIP}}:{{.ContainerPort}} {{.Policy}}";
    let seen = audit().gorae(&["network", "audit", "--format", format], "");
    let line = "0123456789ab :: 172.18.0.2:80 docker\n";
    let third = "0123456789ab  172.18.0.2:80 docker\n";
    assert_eq!(seen.out, format!("{line}{line}{third}"));
    assert_eq!(seen.errors, "WARNING: ufw drops forwarded packets\n");
    let seen = audit().gorae(&["network", "audit", "--format", "json"], "");
    let first: Value = serde_json::from_str(seen.out.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["From"], &first["Reachable"], &first["Published"]),
        (&"other hosts".into(), &"yes".into(), &"[::]:8080".into())
    );
}

#[test]
fn checking() {
    let check = |words: &[&str], repaired: &'static [bool], code: i32, out: &str, line: &str| {
        let engine = Engine::new(move |_line| {
            let findings: Vec<Value> = repaired
                .iter()
                .map(|repaired| json!({"Kind": "bridge", "Object": "br-1", "Problem": "is gone", "Action": "make it", "Repaired": repaired}))
                .collect();
            ok(&json!({ "Findings": findings }).to_string())
        });
        let words = [&["system", "check"], words].concat();
        let seen = engine.gorae(&words, "");
        assert_eq!((seen.code, seen.out.as_str()), (code, out), "{words:?}");
        assert_eq!(
            seen.errors.contains("--repair"),
            code == 1 && words.len() == 2
        );
        assert_eq!(engine.lines(), [line], "{words:?}");
    };
    let asked = "POST /gorae/system/check";
    let repairing = "POST /gorae/system/check?repair=1";
    let head = "KIND      OBJECT    PROBLEM   ACTION    REPAIRED\n";
    let left = "bridge    br-1      is gone   make it   no\n";
    let mended = "bridge    br-1      is gone   make it   yes\n";
    check(&[], &[], 0, "All is well.\n", asked);
    check(&[], &[false], 1, &format!("{head}{left}"), asked);
    check(
        &["--repair"],
        &[true],
        0,
        &format!("{head}{mended}"),
        repairing,
    );
    check(
        &["--repair"],
        &[true, false],
        1,
        &format!("{head}{mended}{left}"),
        repairing,
    );
    check(
        &["--repair", "--format", "{{.Repaired}}"],
        &[true],
        0,
        "yes\n",
        repairing,
    );
    check(&["--format", "json"], &[], 0, "", asked);
}

#[test]
fn bandwidth() {
    let check = |words: &[&str], expect: Result<(i64, i64), &str>| {
        let engine = Engine::new(|_line| ok(r#"{"Id":"abc","Warnings":[]}"#));
        let seen = engine.gorae(words, "");
        let (ingress, egress) = match expect {
            Ok(rates) => rates,
            Err(why) => {
                assert!(seen.errors.starts_with(why), "{words:?}: {}", seen.errors);
                assert_eq!((seen.code, engine.lines().len()), (125, 0), "{words:?}");
                return;
            }
        };
        assert_eq!(seen.code, 0, "{words:?}: {}", seen.errors);
        let body: Value = serde_json::from_str(&engine.asked()[0].1).unwrap();
        let limits = if words[0] == "update" {
            &body
        } else {
            &body["HostConfig"]
        };
        let rate = |name: &str| limits[name].as_i64().unwrap_or(0);
        assert_eq!(
            (rate("NetworkIngressRate"), rate("NetworkEgressRate")),
            (ingress, egress),
            "{words:?}: {limits}"
        );
    };
    check(
        &[
            "create",
            "--net-ingress",
            "20mbit",
            "--net-egress",
            "500kbps",
            "img",
        ],
        Ok((20_000_000, 4_000_000)),
    );
    check(
        &["run", "-d", "--net-egress=1gbit", "img"],
        Ok((0, 1_000_000_000)),
    );
    check(&["create", "--net-egress", "0", "img"], Ok((0, 0)));
    check(
        &["update", "--net-ingress", "1.5mbit", "web"],
        Ok((1_500_000, 0)),
    );
    // zero in an update's body means that nothing changes
    check(&["update", "--net-egress", "0", "web"], Ok((0, -1)));
    check(&["update", "--net-egress", "-1", "web"], Ok((0, -1)));
    check(
        &["create", "--net-ingress", "20mb", "img"],
        Err(
            "invalid argument \"20mb\" for \"--net-ingress\" flag: invalid rate \"20mb\": must be a number and a unit, such as 20mbit, 500kbit or 1gbit",
        ),
    );
    check(
        &["update", "--net-egress=", "web"],
        Err("invalid argument \"\" for"),
    );
}

#[test]
fn settings_of_the_engine_that_make_no_sense() {
    let check = |words: &[&str], expect: &str| {
        // nothing is made there, as each of these ends before the engine opens
        let mut all = vec!["daemon", "--shim", "/bin/true"];
        all.extend(["--run", "/dev/null/run", "--root", "/dev/null/root"]);
        all.extend(words);
        let seen = crate::engine::gorae("unix:///nonexistent", &all, "");
        assert!(
            seen.code != 0 && seen.errors.contains(expect),
            "{words:?}: {seen:?}"
        );
    };
    check(
        &["--default-address-pool", "base=10.0.0.0/8"],
        "needs both base and size",
    );
    check(
        &["--default-address-pool", "base=10.0.0.0/8,size=4"],
        "size 4 must be from 8 to 32, as the base is 10.0.0.0/8",
    );
    check(
        &["--publish-policy", "ufw"],
        "must be docker or host-firewall",
    );
    check(&["--default-address", "x"], "x is no IP address");
    check(&["--publish-address", "::g"], "::g is no IP address");
    check(&["--mtu", "10"], "must be from 68 to 65535");
    check(&["--ipv6", "--mtu", "576"], "must be from 1280 to 65535");
    check(
        &["--fixed-cidr-v6", "fd00::/64"],
        "has no effect without --ipv6",
    );
    check(
        &["--ipv6", "--fixed-cidr-v6", "10.0.0.0/8"],
        "10.0.0.0/8 is no IPv6 subnet",
    );
    check(&["--icc=maybe"], "strconv.ParseBool");
}
