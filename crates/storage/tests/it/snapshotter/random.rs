//! Random trees: from an archive of ours, from archives of GNU tar, and as GNU tar extracts them.

use std::path::Path;
use std::process::Command;

use super::tree;
use crate::support::{Head, Tar};

/// Xorshift: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// A name of any bytes that a name may have.
    fn name(&mut self, number: usize) -> Vec<u8> {
        let length = self.pick(&[1, 3, 8, 20, 90, 120, 200]);
        let mut name = format!("{number}").into_bytes();
        for _ in 0..length {
            let byte = match self.below(12) {
                0 => u8::try_from(self.below(254) + 1).unwrap(),
                1 => b' ',
                2 => b'.',
                _ => u8::try_from(self.below(26)).unwrap() + b'a',
            };
            name.push(if byte == b'/' { b'_' } else { byte });
        }
        if self.one_in(4) {
            name.rotate_right(1);
        }
        name
    }

    fn content(&mut self) -> Vec<u8> {
        // around what fits behind an inode, around a block, around a few
        let sizes = [
            0, 1, 100, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 12_288, 70_001, 300_000,
        ];
        let size = self.pick(&sizes);
        let first = self.below(251);
        (0..size)
            .map(|at| u8::try_from((at * 31 + first) % 251).unwrap())
            .collect()
    }

    fn time(&mut self) -> String {
        let seconds = self.pick(&["0", "1", "-5", "1600000000", "4294967296"]);
        let rest = self.pick(&["", ".5", ".000000001", ".999999999"]);
        format!("{seconds}{rest}")
    }
}

/// What may be on a file, as records and as names.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Makes an archive of so many entries.
fn archive(random: &mut Random, count: usize) -> Tar {
    let mut tar = Tar::new();
    let mut dirs: Vec<Vec<u8>> = vec![Vec::new()];
    let mut files: Vec<Vec<u8>> = Vec::new();
    for number in 0..count {
        let dir = dirs[random.below(dirs.len())].clone();
        let mut path = [dir, random.name(number)].concat();
        if path.len() > 1500 {
            continue;
        }
        let flag = random.pick(b"000005555212346");
        let mut head = Head::new(flag, 0o600 + u32::try_from(random.below(0o177)).unwrap());
        head.owner = (
            random.pick(&[0, 0, 1000, 3_000_000]),
            random.pick(&[0, 5, 70_000]),
        );
        let mut text = Vec::new();
        let time = random.time();
        let mut more: Vec<(&str, Vec<u8>)> = vec![("mtime", time.into_bytes())];
        let value = vec![b'v'; random.pick(&[0, 1, 3, 4, 200, 1500])];
        match flag {
            b'0' => {
                text = random.content();
                head.mode |= random.pick(&[0, 0, 0o4000, 0o6000, 0o2000]);
                if random.one_in(3) {
                    more.push(("SCHILY.xattr.user.note", value));
                }
                if random.one_in(6) {
                    more.push(("SCHILY.xattr.security.capability", CAPABILITY.to_vec()));
                }
            }
            b'5' => {
                path.push(b'/');
                head.mode |= random.pick(&[0o100, 0o1100, 0o2100]);
                if random.one_in(3) {
                    more.push(("SCHILY.xattr.user.dir", value));
                }
            }
            b'2' => {
                let length = random.pick(&[1, 50, 101, 4000, 4095]);
                more.push(("linkpath", vec![b't'; length]));
            }
            b'1' => {
                let Some(target) = files.get(random.below(files.len().max(1))) else {
                    continue;
                };
                more = vec![("linkpath", target.clone())];
            }
            _ => head.device = (random.pick(&[1, 8, 259]), random.pick(&[3, 255, 70_000])),
        }
        more.push(("path", path.clone()));
        let records: Vec<_> = more.iter().map(|(key, value)| (*key, &value[..])).collect();
        tar = tar.pax(&records).raw(b"x", &head, &text);
        match flag {
            b'0' => files.push(path),
            b'5' => dirs.push(path),
            _ => {}
        }
    }
    tar
}

fn tar(args: &[&str], archive: &Path, dir: &Path) {
    let mut command = Command::new("tar");
    command.args(args).arg(archive).arg("-C").arg(dir);
    command.args(["--numeric-owner", "--warning=no-timestamp"]);
    command.arg("--delay-directory-restore");
    if !args.contains(&"--format=gnu") {
        command.args(["--xattrs", "--xattrs-include=*"]);
    }
    if args[0] == "-c" {
        command.arg(".");
    }
    assert!(command.status().unwrap().success(), "tar {args:?}");
}

fn run(seed: u64, count: usize) {
    let fixture = super::fixture();
    let [packed, expected] = ["archive.tar", "expected"].map(|name| fixture.dir.path().join(name));
    std::fs::create_dir(&expected).unwrap();
    let ours = Tar::new().dir("./", 0o755);
    let bytes = ours.append(&archive(&mut Random(seed), count)).finish();
    std::fs::write(&packed, &bytes).unwrap();
    tar(&["-xpf"], &packed, &expected);
    let layer = fixture.apply(&bytes).unwrap().commit(None).unwrap();
    tree::compare(
        &fixture.files(&layer),
        &expected,
        &format!("seed {seed:#x}"),
    );
    for format in ["--format=pax", "--format=gnu"] {
        // GNU's format has neither attributes nor parts of seconds
        tar(&["-c", format, "-f"], &packed, &expected);
        let again = fixture.dir.path().join(format);
        std::fs::create_dir(&again).unwrap();
        tar(&["-xpf"], &packed, &again);
        let bytes = std::fs::read(&packed).unwrap();
        let layer = fixture.apply(&bytes).unwrap().commit(None).unwrap();
        tree::compare(
            &fixture.files(&layer),
            &again,
            &format!("{format} seed {seed:#x}"),
        );
    }
    super::check_images(&fixture);
}

#[test]
fn random_trees_are_as_gnu_tar_extracts_them() {
    for seed in 1..=6_u64 {
        run(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 60);
    }
}

#[test]
fn a_large_random_tree_too() {
    run(0x2545_f491_4f6c_dd1d, 900);
}
