# Shared by the scripts beside it: where things are, and how they say what they do.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# the one target that .cargo/config.toml builds for
TRIPLE=$(sed -n 's/^target = "\(.*\)"/\1/p' .cargo/config.toml)
# where 'make build' collects the two executables
BIN=$PWD/target/gorae/bin

if [[ -t 1 ]]; then BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' DIM='' RED='' PLAIN=''; fi

say() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN"; }
die() { printf '%s%s: %s%s\n' "$RED" "${0##*/}" "$*" "$PLAIN" >&2; exit 1; }

need_root() { [[ $EUID == 0 ]] || die "$1 needs root: namespaces, mounts and cgroups are made"; }

# Runs a command as root: as it is, or by sudo where that is there.
as_root() {
  if [[ $EUID == 0 ]]; then "$@"
  elif command -v sudo >/dev/null; then sudo -- "$@"
  else die "root is needed for: $*"; fi
}

# The mirror of Debian that this machine's apt uses.
debian_mirror() {
  site() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | awk '!/-security/ && !seen++'; }
  if [[ -z $(site) ]]; then as_root apt-get update -qq; fi
  site | grep .
}

# Says what is done and how long it took.
timed() {
  local what=$1 begun=$SECONDS; shift
  say "$what"
  "$@"
  printf '%s    %s: %d s%s\n' "$DIM" "$what" $((SECONDS - begun)) "$PLAIN"
}
