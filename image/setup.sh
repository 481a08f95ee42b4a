#!/bin/sh
# Turns a Debian root file system with the packages of packages.txt into the
# sandbox image. Runs inside it, as root, for the Containerfile and for tests/cluster.
set -eu

# An ordinary user: sshd runs as it, and can then log in nobody else.
groupadd --gid 1000 sandbox
useradd --uid 1000 --gid 1000 --create-home --shell /bin/sh sandbox
# "*" is no password either, but unlike the "!" of useradd it is not a locked account.
usermod --password '*' sandbox

# Keys in an image would be the same in every sandbox. Each Pod makes its own.
rm -f /etc/ssh/ssh_host_*
# sshd refuses to start without it; /run may come empty from the packages.
install -d -m 0755 /run/sshd

# What a disposable machine does not read.
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/info/* /usr/share/locale/* /usr/share/lintian
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*-old /var/lib/dpkg/*-old
find /var/log -type f -delete
