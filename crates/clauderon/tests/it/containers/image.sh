#!/usr/bin/env bash
# Makes the archives of two images from what this machine has, without a registry: image.sh DIR
#   tools.tar   shell, coreutils, curl, git and Python with all they load, and nothing else: no certificate, no account
#   bare.tar    one static program
set -euo pipefail
dir="$1"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

programs=(/bin/sh /usr/bin/python3)
for name in bash cat chmod cp curl env git grep head id ln ls mkdir mv ps rm sed seq sleep stat stty tail touch tr true tty wc; do
    programs+=("$(type -P "$name")")
done
# As paths below the root, without the links of merged directories.
python="$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
core="$(git --exec-path)"
{
    for program in "${programs[@]}" "$core"/git-remote-http "$python"/lib-dynload/*.so; do
        ldd "$program" 2>/dev/null || true
    done
} | sed -n 's/.*=> \(\/[^ ]*\) (.*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | sort -u >"$work/libraries"
mkdir -p "$work/root/tmp" "$work/root/etc" "$work/root/dev" "$work/root/proc" "$work/root/sys"
chmod 1777 "$work/root/tmp"
tar -C "$work/root" -cf "$work/tools.tar" .
{ printf '%s\n' "${programs[@]}"; cat "$work/libraries"; } | sort -u | sed 's,^/,,' |
    tar -C / --dereference -rf "$work/tools.tar" -T -
tar -C / -rf "$work/tools.tar" --exclude='*/test' --exclude='*/__pycache__' --exclude='*/dist-packages' \
    --exclude='*/config-3*' "${python#/}" "${core#/}"

printf '%s\n' "$BARE_SOURCE" >"$work/bare.c"
mkdir "$work/bare"
cc -static -O1 -o "$work/bare/bare" "$work/bare.c"
tar -C "$work/bare" -cf "$work/bare.tar" .
mv "$work/tools.tar" "$work/bare.tar" "$dir"
