//! `inspect`: objects as the engine tells them, whole or through a template.

use crate::failure::Failure;
use crate::format;
use crate::output;
use crate::template::{Root, Template};
use serde_json::Value;

/// Fields that the engine leaves out where they are not set; a template may still ask for them.
const OPTIONAL: &[&str] = &[
    "Health",
    "Healthcheck",
    "StopTimeout",
    "StopSignal",
    "Shell",
    "ExposedPorts",
    "NetworkDisabled",
    "MacAddress",
    "ArgsEscaped",
    "Init",
    "Mounts",
    "Tmpfs",
    "Sysctls",
    "StorageOpt",
    "Annotations",
    "Runtime",
    "SizeRw",
    "SizeRootFs",
    "ImageManifestDescriptor",
    "CreatedAt",
    "UsageData",
    "Status",
    "ClusterVolume",
    "Variant",
    "OsVersion",
    "Created",
    "Descriptor",
    "Services",
    "Peers",
    "KernelMemory",
    "KernelMemoryTCP",
];

/// Fields whose name in Go, which templates use, is not their key in JSON.
const GO_NAMES: &[(&str, &str)] = &[
    ("APIVersion", "ApiVersion"),
    ("CPUCfsPeriod", "CpuCfsPeriod"),
    ("CPUCfsQuota", "CpuCfsQuota"),
    ("HTTPProxy", "HttpProxy"),
    ("HTTPSProxy", "HttpsProxy"),
    ("ID", "Id"),
];

/// An object that lacks what is not set.
struct Object<'a>(&'a Value);

impl Root for Object<'_> {
    fn value(&self) -> Value {
        self.0.clone()
    }

    fn absent(&self, name: &str) -> Option<Value> {
        match name {
            "BuildTime" | "KernelVersion" | "MinAPIVersion" | "ProductLicense" => {
                Some(Value::from(""))
            }
            "Experimental" => Some(Value::Bool(false)),
            _ => OPTIONAL.contains(&name).then_some(Value::Null),
        }
    }

    fn key_of(&self, name: &str) -> Option<&'static str> {
        GO_NAMES
            .iter()
            .find_map(|(go, key)| (*go == name).then_some(*key))
    }
}

/// How objects are shown.
#[derive(Debug)]
pub(crate) enum Shown {
    /// All as one array, indented.
    Array,
    /// Each as one line of JSON.
    Lines,
    /// Each through a template.
    Template(Template),
}

impl Shown {
    /// Reads `--format` of `inspect`.
    pub(crate) fn read(text: Option<&str>) -> Result<Self, Failure> {
        match text.map(str::trim) {
            None | Some("") => Ok(Self::Array),
            Some("json") => Ok(Self::Lines),
            Some(source) => {
                let source = source.replace("\\t", "\t").replace("\\n", "\n");
                Template::parse(&source)
                    .map(Self::Template)
                    .map_err(|error| {
                        Failure::with_code(format!("template parsing error: {error}"), 64)
                    })
            }
        }
    }

    /// Shows the objects.
    pub(crate) fn print(&self, objects: &[Value]) -> anyhow::Result<()> {
        match self {
            Self::Array if objects.is_empty() => output::line("[]")?,
            Self::Array => {
                let mut out = Vec::new();
                let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
                let mut writer = serde_json::Serializer::with_formatter(&mut out, formatter);
                serde::Serialize::serialize(objects, &mut writer)?;
                out.push(b'\n');
                output::raw(&out)?;
            }
            Self::Lines => output::line(Value::Array(objects.to_vec()).to_string())?,
            Self::Template(template) => {
                for object in objects {
                    match template.render(&Object(object)) {
                        Ok(text) => output::line(text)?,
                        Err(error) => {
                            output::line("")?;
                            return Err(Failure::message(format!(
                                "template parsing error: {error}"
                            ))
                            .into());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// What stands for `--format` of a single object such as `info`: nothing for the plain text.
pub(crate) fn one(text: Option<&str>, object: &Value) -> anyhow::Result<Option<()>> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text == "json" {
        output::line(object.to_string())?;
        return Ok(Some(()));
    }
    let source = text.replace("\\t", "\t").replace("\\n", "\n");
    let template = Template::parse(&source)
        .map_err(|error| Failure::with_code(format!("template parsing error: {error}"), 64))?;
    let shown = template
        .render(&Object(object))
        .map_err(|error| Failure::message(format!("template parsing error: {error}")))?;
    output::line(shown)?;
    Ok(Some(()))
}

/// The flag of these commands.
pub(crate) const FORMAT: crate::args::Flag =
    crate::args::Flag::one("format", "string", format::HELP_ONE).short('f');

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(source: &str, expect: &str) {
        let object = json!({
            "Id": "1",
            "CpuCfsQuota": true,
            "HttpProxy": "proxy",
            "Server": {"ApiVersion": "1.51", "MinAPIVersion": "1.24"},
        });
        let template = Template::parse(source).unwrap();
        let shown = template.render(&Object(&object)).unwrap();
        assert_eq!(shown, expect, "{source}");
    }

    #[test]
    fn names_of_go_and_of_json() {
        check("{{.ID}} {{.Id}}", "1 1");
        check("{{.Server.APIVersion}}", "1.51");
        check("{{.Server.MinAPIVersion}}", "1.24");
        check("{{json .Server.ApiVersion}}", "\"1.51\"");
        check("{{.CPUCfsQuota}} {{.HTTPProxy}}", "true proxy");
        check("{{.Server.Experimental}}{{.Server.KernelVersion}}", "false");
    }
}
