#!/bin/sh
# hide_symbols.sh ARCHIVE SYMBOLS RESULT: turns ARCHIVE into a static library of one object, in which only the functions
# that SYMBOLS lists are global. A program can then link another OpenSSL, libssh2 or Rust library beside it without
# symbols being mixed up.
set -eu
archive=$1 symbols=$2 result=$3
mkdir -p "$(dirname "$result")"
# Several tests may ask for it at once.
exec 9>"$result.lock"
flock 9
# What it was made of is kept by a link: cargo does not always give a library a new time.
if [ "$archive" -ef "$result.of" ] && [ "$result" -nt "$symbols" ]; then
    exit
fi
directory=$(mktemp -d "$result.XXXXXX")
trap 'rm -rf "$directory"' EXIT
grep '^sbx_' "$symbols" >"$directory/names"
# Groups are for what several objects have; once it is local, a linker must not take another one's for it.
ld -r -d --force-group-allocation $(sed 's/^/-u /' "$directory/names") -o "$directory/all.o" "$archive"
# The compiler's own notes (.llvm*) are for one object each.
objcopy --keep-global-symbols="$directory/names" --strip-debug -R .llvmbc -R .llvmcmd "$directory/all.o" "$directory/sandbox.o"
ar rcs "$directory/libsandbox.a" "$directory/sandbox.o"
ln -f "$archive" "$result.of"
mv "$directory/libsandbox.a" "$result"
