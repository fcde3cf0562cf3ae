//! What a process's results are known by.

use std::collections::BTreeMap;

use prost::Message as _;

use super::mounts::ROOT;
use crate::llb::pb;
use crate::op::{CacheMap, InputKey, OpContext, Selector};

/// What a process does, without what cannot change its result: the proxies that it is told of, and the
/// place of read-only inputs that count by their content.
pub(in crate::ops) fn cache_map(context: &OpContext, op: &pb::ExecOp) -> CacheMap {
    let inputs = input_keys(op, context.vertex.inputs.len());
    let mut op = op.clone();
    if let Some(meta) = &mut op.meta {
        meta.proxy_env = None;
    }
    for mount in &mut op.mounts {
        mount.selector.clear();
        mount.result_id.clear();
    }
    let mut bytes = op.encode_to_vec();
    if let Some(platform) = &context.vertex.op.platform {
        bytes.push(0);
        bytes.extend(platform.encode_to_vec());
    }
    CacheMap {
        digest: crate::ops::keyed("buildkit.exec.v0", &bytes),
        inputs,
    }
}

/// An input counts by its content where no mount of it can be written and kept.
fn input_keys(op: &pb::ExecOp, count: usize) -> Vec<InputKey> {
    let mut by_input: BTreeMap<usize, (bool, Vec<String>)> = BTreeMap::new();
    for mount in &op.mounts {
        let Ok(index) = usize::try_from(mount.input) else {
            continue;
        };
        let (by_content, paths) = by_input.entry(index).or_insert((true, Vec::new()));
        let kept = (!mount.readonly || mount.dest == ROOT) && mount.output >= 0;
        let off = mount.content_cache() == pb::MountContentCache::Off;
        // what a cache mount is filled with counts by how it was made
        let fills = mount.mount_type() == pb::MountType::Cache;
        *by_content &= !kept && !off && !fills && mount.dest != ROOT;
        paths.push(crate::ops::copy::clean(&mount.selector));
    }
    (0..count)
        .map(|index| match by_input.remove(&index) {
            Some((true, paths)) => InputKey::Content(selectors(paths)),
            Some((false, _)) | None => InputKey::Definition,
        })
        .collect()
}

/// One selector a path; those below another are part of it.
fn selectors(mut paths: Vec<String>) -> Vec<Selector> {
    paths.sort_unstable();
    paths.dedup();
    let all = paths.clone();
    let covered = |path: &String| {
        all.iter().any(|other| {
            other != path
                && (other == "/"
                    || path
                        .strip_prefix(other.as_str())
                        .is_some_and(|rest| rest.starts_with('/')))
        })
    };
    paths.retain(|path| !covered(path));
    paths
        .into_iter()
        .map(|path| Selector {
            path,
            follow_links: true,
            ..Selector::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(input: i64, dest: &str, readonly: bool, output: i64, selector: &str) -> pb::Mount {
        pb::Mount {
            input,
            dest: dest.to_owned(),
            readonly,
            output,
            selector: selector.to_owned(),
            ..pb::Mount::default()
        }
    }

    #[test]
    fn inputs_count_by_content_unless_they_are_kept() {
        let op = pb::ExecOp {
            mounts: vec![
                mount(0, "/", false, 0, ""),
                mount(1, "/src", true, -1, "/a"),
                mount(1, "/lib", true, -1, "/a/b"),
                mount(2, "/out", false, 1, ""),
                mount(3, "/scribble", false, -1, ""),
            ],
            ..pb::ExecOp::default()
        };
        let keys = input_keys(&op, 5);
        let content = |path: &str| {
            InputKey::Content(vec![Selector {
                path: path.to_owned(),
                follow_links: true,
                ..Selector::default()
            }])
        };
        let expected = [
            InputKey::Definition,
            content("/a"),
            InputKey::Definition,
            content("/"),
            InputKey::Definition,
        ];
        assert_eq!(keys, expected);
    }
}
