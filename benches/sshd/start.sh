# The main process of the Pod that the guest is compared with: an sshd for one user and one key, without root. The
# argument is the public key, the port is in the environment.
set -eu
dir=/dev/shm/sshd
umask 077
mkdir "$dir"
echo "$1" > "$dir/authorized_keys"
ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
# SHLVL keeps a bash that thinks it is a login over the network from reading .bashrc. No limit is in a client's way.
cat > "$dir/sshd_config" <<CONFIG
Port $PORT
HostKey $dir/host_key
AuthorizedKeysFile $dir/authorized_keys
AuthenticationMethods publickey
StrictModes no
UseDNS no
PidFile none
PrintMotd no
PrintLastLog no
X11Forwarding no
MaxStartups 1000:30:1000
MaxSessions 1000
SetEnv SHLVL=1
Subsystem sftp internal-sftp
CONFIG
umask 022
exec /usr/sbin/sshd -D -e -f "$dir/sshd_config"
