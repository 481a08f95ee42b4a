#!/bin/sh
# Turns a Debian root file system with the packages of packages.txt into the image of the comparison. Runs inside it, as
# root.
set -eu

groupadd --gid 1000 sandbox
useradd --uid 1000 --gid 1000 --create-home --shell /bin/sh sandbox
# Each Pod makes its own.
rm -f /etc/ssh/ssh_host_*
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /var/cache/apt/* /var/lib/apt/lists/*
