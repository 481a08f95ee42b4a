# Kills every process that has the marker $1 in its environment. Exit code 0 once there is none and each could be looked at. With
# $2, only the own processes are looked at: root without CAP_SYS_PTRACE may not look at those of others.
round=0
while [ $round -lt 20 ]; do
    round=$((round + 1))
    files=/dev/null
    for file in /proc/[0-9]*/environ; do
        [ -n "$2" ] && [ ! -O "$file" ] && continue
        # sshd lets nobody look at its SFTP server, which is no command's.
        if ! true < "$file"; then
            read -r name < "${file%environ}comm" || continue
            case $name in sshd*) continue ;; esac
        fi
        files="$files $file"
    done
    found=$(grep -lsxzF "$1" $files)
    # A process may fork while it is looked for, so look until there is nothing more.
    [ $? = 1 ] && exit 0
    for file in $found; do
        file=${file#/proc/}
        kill -9 "${file%/environ}"
    done
    # On a busy machine what is killed takes its time to be gone.
    [ $round -lt 5 ] || sleep 0.05
done 2> /dev/null
exit 1
