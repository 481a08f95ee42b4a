# The main process of a sandbox: prepares an SSH server for one user and becomes it.
# Arguments: public key, port, user name, expiry in Unix seconds or "never".
# ssh/ relies on the files that this leaves in $dir.
key=$1 port=$2 user=$3 expiry=$4
# In memory, writable for every user, and not swept away with /tmp.
dir=/dev/shm/.sandbox

fail() {
    echo "$1" >&2
    echo "$1" > /dev/termination-log
    exit 64
}

sshd=$(command -v sshd || echo /usr/sbin/sshd)
[ -x "$sshd" ] || fail "the image has no OpenSSH server ($sshd)"
command -v ssh-keygen > /dev/null || fail "the image has no ssh-keygen"
[ "$(id -un 2> /dev/null)" = "$user" ] || fail "the image's /etc/passwd does not name user id $(id -u) '$user'"

umask 077
mkdir -p "$dir" || fail "no directory can be made in /dev/shm"
# What every command runs first: the image's environment, which sshd does not hand on, and its working directory.
{ echo 'unset SSH_CLIENT SSH_CONNECTION MAIL SHLVL'; export -p; echo "cd -P $dir/cwd"; } > "$dir/env"
ln -sfn "$(pwd)" "$dir/cwd"
echo "$key" > "$dir/authorized_keys"
echo "$expiry" > "$dir/expires"
ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key" || fail "no host key can be made"
# SHLVL keeps a bash that thinks it is a login over the network from reading .bashrc.
cat > "$dir/sshd_config" <<CONFIG
Port $port
HostKey $dir/host_key
AuthorizedKeysFile $dir/authorized_keys
AuthenticationMethods publickey
StrictModes no
UseDNS no
PidFile none
PrintMotd no
PrintLastLog no
PermitUserRC no
X11Forwarding no
MaxStartups 1000:30:1000
MaxSessions 1000
LoginGraceTime 60
SetEnv SHLVL=1
Subsystem sftp internal-sftp -d $dir/cwd
CONFIG
# From 9.8 on, sshd bans an address after a few broken connections; through the tunnel all clients share one address.
"$sshd" -t -f "$dir/sshd_config" -o PerSourcePenalties=no 2> /dev/null &&
    echo 'PerSourcePenalties no' >> "$dir/sshd_config"
umask 022

# The dead-man's switch: no client that comes back, and the sandbox stops by itself.
while sleep 5; do
    read -r expires < "$dir/expires" || expires=$expiry
    [ "$expires" != never ] && [ "$(date +%s)" -ge "$expires" ] || continue
    echo expired > /dev/termination-log
    kill $$
done &

exec "$sshd" -D -e -f "$dir/sshd_config"
