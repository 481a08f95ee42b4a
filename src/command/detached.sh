# Commands that outlive their connection. Each has a directory in $base with its line and input, its output, its status, and a
# lock that its runner holds for as long as it lives; the directory's other name is the command's key.
# Arguments: what to do, the key, and what that takes. Exit codes: 66 no such command, 67 it runs or is another
# one, 68 a message says what failed.
base=/tmp/.sandbox-commands
verb=$1 key=$2
dir=$base/$key
shift 2

fail() {
    echo "$1" >&2
    exit 68
}

has_ended() {
    flock -sn "$dir/lock" true
}

# Arguments: bytes of the line, bytes of the input, a digest of all, the line that sweeps, the runner's text, the seconds that the
# command may take or nothing.
start() {
    for tool in awk flock setsid; do
        command -v $tool > /dev/null || fail "the image has no $tool, which a detached command takes"
    done
    mask=$(umask)
    umask 077
    mkdir -p "$base" && new=$(mktemp -d "$base/.XXXXXX") || fail "no directory can be made in /tmp"
    # A connection that is lost half-way must not leave half a line to run.
    if ! { head -c "$1" > "$new/line" && cat > "$new/stdin" && echo "$3" > "$new/digest" &&
        : > "$new/stdout" && : > "$new/stderr" && echo "$4" > "$new/sweep" &&
        [ "$(wc -c < "$new/line")" -eq "$1" ] && [ "$(wc -c < "$new/stdin")" -eq "$2" ]; }; then
        rm -rf "$new"
        fail "the command did not arrive whole in /tmp"
    fi
    exec 9> "$new/lock"
    if flock 9 && ln -sn "$new" "$dir" 2> /dev/null; then
        umask "$mask"
        # This shell leads its process group, so setsid goes on in a child, which the connection's end does not concern. A
        # child of "&" would have SIGINT ignored for good.
        exec setsid /bin/sh -c "$5" sh "$new" "$6" < /dev/null > /dev/null 2>&1
    fi
    rm -rf "$new"
    [ -d "$dir/" ] || fail "the command could not be started"
    [ "$(cat "$dir/digest")" = "$3" ] || exit 67
}

look() {
    if ! has_ended; then
        echo running
    elif ! read -r status < "$dir/status"; then
        echo lost
    elif [ "$status" -gt 255 ]; then
        [ ! -e "$dir/expired" ] || echo expired
        echo "signal $(kill -l $((status % 128)))"
    else
        reason=/dev/shm/.sandbox/never-ran-$key
        if [ "$status" = 127 ] && [ -e "$reason" ]; then
            echo "$(cat "$reason")"
        fi
        echo "code $status"
    fi
}

# Arguments: the signal. The number of a process group whose command has ended may be somebody else's.
signal() {
    has_ended && return
    # A command that was started a moment ago may have no group yet.
    until kill -s 0 -- "-$(cat "$dir/group")" || has_ended; do :; done 2> /dev/null
    has_ended || kill -s "$1" -- "-$(cat "$dir/group")" || has_ended || fail "it takes no signal $1"
}

case $verb in
start) start "$@" ;;
*) [ -d "$dir/" ] || exit 66 ;;
esac
case $verb in
look) look ;;
wait) flock -s "$dir/lock" true && look ;;
read) tail -c "+$2" "$dir/$1" | head -c "$3" ;;
follow)
    tail -c "+$1" -f "$dir/stdout" & out=$!
    tail -c "+$2" -f "$dir/stderr" >&2 & err=$!
    flock -s "$dir/lock" true
    kill $out $err 2> /dev/null || :
    ;;
signal) signal "$1" ;;
kill)
    signal KILL
    sh "$dir/sweep" || fail "some of its processes are still there"
    flock -s "$dir/lock" true
    ;;
remove)
    has_ended || exit 67
    files=$(readlink "$dir") && rm "$dir" && rm -rf "$files" "/dev/shm/.sandbox/never-ran-$key"
    ;;
esac
