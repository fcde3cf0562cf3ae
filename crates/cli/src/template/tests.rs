use super::*;
use serde_json::json;

fn run(source: &str) -> Result<String, TemplateError> {
    let value = json!({
        "Name": "/web", "Empty": "", "Zero": 0, "Count": 3, "Ratio": 0.5, "On": true, "Nothing": null,
        "Args": ["a", "b"], "Cmd": null, "Labels": {"z": "1", "a": "2"},
        "State": {"Status": "running", "Pid": 42},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": null}},
        "Mounts": [{"Type": "bind"}, {"Type": "volume"}],
    });
    Template::parse(source)?.render(&value)
}

fn check(source: &str, expect: &str) {
    assert_eq!(run(source).as_deref(), Ok(expect), "{source}");
}

fn check_error(source: &str, expect: &str) {
    let error = run(source).unwrap_err().to_string();
    assert_eq!(error, expect, "{source}");
}

#[test]
fn fields_and_text() {
    check("plain", "plain");
    check("{{.Name}}", "/web");
    check("a{{.State.Status}}b", "arunningb");
    check("{{.}}{{/* note */}}", run("{{.}}").unwrap().as_str());
    check("{{$.Name}}", "/web");
    check("{{.Args}} {{.Labels}} {{.Ratio}}", "[a b] map[a:2 z:1] 0.5");
    check("{{.Nothing}} {{.Cmd}}", "<no value> []");
    check("{{(index .Mounts 1).Type}}", "volume");
    check(
        "{{ (index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort }}",
        "8080",
    );
}

#[test]
fn trimming() {
    check("a  {{- .Count -}}  b", "a3b");
    check("a {{- /* x */ -}} b", "ab");
    check("{{`raw {{`}}", "raw {{");
    check("{{-3}}", "-3");
}

#[test]
fn branches() {
    check("{{if .On}}y{{else}}n{{end}}", "y");
    check("{{if .Zero}}y{{else if .Count}}c{{else}}n{{end}}", "c");
    check("{{if .Empty}}y{{else if .Zero}}c{{else}}n{{end}}", "n");
    check("{{with .State}}{{.Pid}}{{end}}", "42");
    check("{{with .Nothing}}x{{else}}none{{end}}", "none");
    check("{{with $s := .State}}{{$s.Pid}}{{$.Count}}{{end}}", "423");
    check("{{if and .On (eq .Count 3)}}y{{end}}", "y");
    check("{{if or .Zero .Nothing}}y{{else}}n{{end}}", "n");
    check("{{if not .Zero}}y{{end}}", "y");
    check("{{and .Zero .Absent.Deep}}", "0");
}

#[test]
fn loops() {
    check("{{range .Args}}<{{.}}>{{end}}", "<a><b>");
    check("{{range $i, $a := .Args}}{{$i}}{{$a}} {{end}}", "0a 1b ");
    check(
        "{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}",
        "a=2;z=1;",
    );
    check("{{range .Nothing}}x{{else}}none{{end}}", "none");
    check(
        "{{range .Args}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}",
        "a",
    );
    check(
        "{{range .Args}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{end}}",
        "b",
    );
    check(
        "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}->{{range $c}}{{.HostPort}}{{end}} {{end}}",
        "80/tcp->8080 90/tcp-> ",
    );
    check("{{$n := 0}}{{range .Args}}{{$n = .}}{{end}}{{$n}}", "b");
    check("{{$x := 1}}{{if .On}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21");
}

#[test]
fn functions() {
    check("{{json .Labels}}", r#"{"z":"1","a":"2"}"#);
    check("{{json .Name}} {{.Cmd | json}}", "\"/web\" null");
    check("{{join .Args \", \"}}", "a, b");
    check("{{index (split \"a:b:c\" \":\") 1}}", "b");
    check(
        "{{upper .Name}}{{lower \"ABC\"}}{{title \"ab cd\"}}",
        "/WEBabcAb Cd",
    );
    check("{{truncate \"abcdef\" 3}}|{{pad \"x\" 1 2}}|", "abc| x  |");
    check(
        "{{printf \"%-6s|%5d|%q|%v|%.2f|%%\" .Name .Count .Name .Args .Ratio}}",
        "/web  |    3|\"/web\"|[a b]|0.50|%",
    );
    check(
        "{{printf \"%d %s\" .Name}}",
        "%!d(string=/web) %!s(MISSING)",
    );
    check("{{println .Name .Count}}", "/web 3\n");
    check("{{print 1 2 \"a\" \"b\" 3}}", "1 2ab3");
    check(
        "{{len .Args}}{{len .Name}}{{len .Labels}}{{len .Nothing}}",
        "2420",
    );
    check(
        "{{index .Labels \"z\"}}{{index .Labels \"none\"}}",
        "1<no value>",
    );
    check("{{slice .Name 1}}", "web");
    check(
        "{{eq .Name \"x\" \"/web\"}} {{ne 1 2}} {{lt 1 2}} {{ge 2 2}} {{gt 1.5 2.0}}",
        "true true true true false",
    );
    check("{{\"a\" | printf \"%s-%s\" \"b\"}}", "b-a");
    check("{{html \"<a>\"}} {{urlquery \"a b\"}}", "&lt;a&gt; a%20b");
}

#[test]
fn go_numbers() {
    let print =
        |value: serde_json::Value| Template::parse("{{.}}").unwrap().render(&value).unwrap();
    assert_eq!(print(json!(1e21)), "1e+21");
    assert_eq!(print(json!(0.00001)), "1e-05");
    assert_eq!(print(json!(100_000_000.0)), "100000000");
    assert_eq!(print(json!(u64::MAX)), "18446744073709551615");
}

#[test]
fn errors_of_parsing() {
    check_error("{{.Name", "template: :1: unclosed action");
    check_error("{{if .On}}", "template: :1: unexpected EOF");
    check_error("{{end}}", "template: :1: unexpected {{end}}");
    check_error(
        "{{frobnicate .}}",
        "template: :1: function \"frobnicate\" not defined",
    );
    check_error("{{$x}}", "template: :1: undefined variable \"$x\"");
    check_error("\n{{}}", "template: :2: missing value for command");
    check_error("{{\"a}}", "template: :1: unterminated quoted string");
    check_error("{{break}}", "template: :1: {{break}} outside {{range}}");
    check_error("{{.Name | }}", "template: :1: missing value for command");
    check_error(
        &"{{if 1}}".repeat(500),
        "template: :1: template nests too deep",
    );
    check_error(
        &format!("{{{{{}", "(".repeat(500)),
        "template: :1: unclosed action",
    );
    check_error(
        &format!("{{{{{}}}}}", "(".repeat(500)),
        "template: :1: template nests too deep",
    );
}

#[test]
fn errors_of_execution() {
    check_error(
        "{{.Foo}}",
        "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"",
    );
    check_error(
        "x\n  {{.Name.Foo}}",
        "template: :2:9: executing \"\" at <.Name.Foo>: can't evaluate field Foo in type interface {}",
    );
    check_error(
        "{{.Nothing.X}}",
        "template: :1:10: executing \"\" at <.Nothing.X>: nil pointer evaluating interface {}.X",
    );
    check_error(
        "{{index .Args 9}}",
        "template: :1:2: executing \"\" at <index .Args 9>: error calling index: index out of range: 9",
    );
    check_error(
        "{{eq 1 \"a\"}}",
        "template: :1:2: executing \"\" at <eq 1 \"a\">: error calling eq: incompatible types for comparison: int and string",
    );
    check_error(
        "{{range 1.5}}{{end}}",
        "template: :1:8: executing \"\" at <1.5>: range can't iterate over 1.5",
    );
}
