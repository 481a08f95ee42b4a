# Runs a detached command and writes down how it ended. Has a session of its own, and the lock on descriptor 9.
# Arguments: the command's directory, and the seconds that it may take or nothing.
dir=$1 limit=$2

# Kills the command when its time is over.
watch() {
    # The shell looks at signals between commands, so this is the sleep if it has begun. A child that the shell has just
    # forked can lose a TERM.
    trap 'kill -s KILL $!; wait; exit' TERM
    sleep "$limit" &
    wait $!
    : > "$dir/expired"
    kill -s KILL -- "-$(cat "$dir/group")"
    sh "$dir/sweep"
}

if [ -n "$limit" ]; then
    watch 9>&- &
fi
# The shell's own 128 + n would not tell a signal from an exit code; awk's 256 + n does.
status=$(exec awk -v dir="$dir" -v shell="${SHELL:-/bin/sh}" 'BEGIN {
    print system("echo $$ > " dir "/group; exec setsid " shell " " dir "/line" \
        " < " dir "/stdin > " dir "/stdout 2> " dir "/stderr")
}' 9>&-)
if [ -n "$limit" ]; then
    [ -e "$dir/expired" ] || kill $!
    wait $!
fi
echo "$status" > "$dir/status"
