//! Whatever a file, a word or a pattern says: nothing panics, everything ends, and what was read is
//! read the same again.

use crate::fixture::{Images, options};
use dockerfile::convert;
use dockerfile::env::EnvList;
use dockerfile::expand::Lexer;
use dockerfile::ignore::{Matcher, Verdict, path_match};
use dockerfile::syntax::Document;
use proptest::prelude::*;

/// Pieces of which hostile files are made.
const PIECES: &[&str] = &[
    "FROM",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "LABEL",
    "ONBUILD",
    "HEALTHCHECK",
    "CMD",
    "EXPOSE",
    "SHELL",
    "USER",
    "VOLUME",
    "WORKDIR",
    "busybox",
    "scratch",
    " AS a",
    "--from=a",
    "--from=0",
    "--mount=type=cache,target=/x",
    "--mount=type=secret,id=a",
    "--link",
    "--parents",
    "--chmod=u+x",
    "--chown=a:b",
    "--platform=$TARGETPLATFORM",
    "--interval=1s",
    "<<EOF",
    "<<-'E F'",
    "\nEOF\n",
    "$x",
    "${x:-$y}",
    "${x#*/}",
    "${x//a/b}",
    "'",
    "\"",
    "\\\n",
    "\\",
    "`",
    "[\"a\",\"b\"]",
    "[",
    "=",
    "a=b",
    "# check=skip=all",
    "# escape=`",
    "# syntax=x",
    "\n",
    "\n",
    "\n",
    " ",
    " ",
    "\t",
    "80/tcp",
    "https://h/r.git#a:b",
    "http://h/x",
    "é",
    "\u{0}",
    "\r\n",
    ",",
    ":",
    "/",
    "..",
    "*",
    "?",
];

/// The same cases each time: what a run finds, every run finds.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: std::env::var("CASES")
            .ok()
            .and_then(|c| c.parse().ok())
            .unwrap_or(150),
        rng_seed: proptest::test_runner::RngSeed::Fixed(
            std::env::var("SEED")
                .ok()
                .and_then(|c| c.parse().ok())
                .unwrap_or(6),
        ),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn file() -> impl Strategy<Value = String> {
    let pieces = proptest::collection::vec(proptest::sample::select(PIECES), 0..60);
    (any::<bool>(), pieces).prop_map(|(from, pieces)| {
        let head = if from { "FROM busybox\n" } else { "" };
        format!("{head}{}", pieces.join(" "))
    })
}

fn path() -> impl Strategy<Value = String> {
    "[ab.é]{1,3}(/[ab.]{1,3}){0,3}"
}

fn pattern() -> impl Strategy<Value = String> {
    "!?([ab.é*?]|\\*\\*/|/|\\[a-b\\]|\\[\\^a\\]|\\\\a){1,8}"
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Document::parse(&data));
    }

    #[test]
    fn any_file_is_converted_or_refused(text in file()) {
        let outcome = convert(text.as_bytes(), &options(), &mut Images::with(&[]));
        if let Err(error) = outcome.result {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn what_was_read_is_read_the_same_again(text in file()) {
        let Ok(first) = Document::parse(text.as_bytes()) else { return Ok(()) };
        if first.escape != '\\' || first.nodes.iter().any(|n| !n.heredocs.is_empty()) {
            return Ok(());
        }
        // a line that ends in an escape would go on, and one that is only that is none
        let open = |t: &str| t.trim().is_empty() || t.trim_end().ends_with('\\');
        if first.nodes.iter().any(|n| open(&n.original)) {
            return Ok(());
        }
        let printed: String = first.nodes.iter().map(|n| n.original.clone() + "\n").collect();
        let second = Document::parse(printed.as_bytes()).unwrap();
        let plain = |d: &Document| -> Vec<_> {
            d.nodes.iter().map(|n| (n.name.clone(), n.flags.clone(), n.args.clone(), n.json)).collect()
        };
        prop_assert_eq!(plain(&first), plain(&second));
    }

    #[test]
    fn any_word_is_expanded_or_refused(text in "[$x{}:+?#%/'\"\\\\a *-]{0,40}") {
        let mut env = EnvList::default();
        env.set("x", "a/b a\\*");
        for skip_unset in [false, true] {
            drop(Lexer { skip_unset, ..Lexer::new('\\') }.expand(&text, &env));
        }
    }

    #[test]
    fn plain_text_stays(text in "[a-zé.,/=:]{0,40}") {
        prop_assert_eq!(Lexer::new('\\').word(&text, &dockerfile::env::Nothing).unwrap(), text);
    }

    #[test]
    fn walks_skip_nothing_that_counts(
        patterns in proptest::collection::vec(pattern(), 1..5),
        path in path(),
    ) {
        let Ok(matcher) = Matcher::new(&patterns) else { return Ok(()) };
        let mut parent: Option<Verdict> = None;
        let mut skipped = false;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let verdict = matcher.below(&path[..end], parent.as_ref());
            if skipped {
                prop_assert!(verdict.matched, "{patterns:?} {path}");
            }
            skipped |= matcher.can_skip(&path[..end], &verdict);
            parent = Some(verdict);
        }
    }

    #[test]
    fn a_path_matches_itself(path in path()) {
        let clean = dockerfile::gofmt::clean_path(&path);
        prop_assert!(clean == "." || Matcher::new(&[&path]).unwrap().matches(&clean));
        prop_assert_eq!(path_match(&path, &path), Ok(true));
        prop_assert_eq!(path_match("*", &path), Ok(!path.contains('/')));
    }
}

#[test]
fn many_paths_are_decided_quickly_enough_to_count_on() {
    let patterns: Vec<String> = (0..100).map(|i| format!("**/dir{i}/*.o")).collect();
    let matcher = Matcher::new(&patterns).unwrap();
    let root = matcher.below("src", None);
    let left_out = (0..5_000).filter(|i| {
        let folder = format!("src/dir{}", i % 200);
        let verdict = matcher.below(&folder, Some(&root));
        matcher
            .below(&format!("{folder}/file{i}.o"), Some(&verdict))
            .matched
    });
    assert_eq!(left_out.count(), 2_500);
}
