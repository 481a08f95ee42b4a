#!/bin/sh
# Turns a Debian root file system with the packages of packages.txt into the comfortable sandbox image. Runs inside it,
# as root, for the Containerfile and for tests/cluster.
set -eu

# An ordinary user, so that commands have a name, a home and a shell.
groupadd --gid 1000 sandbox
useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash sandbox

# What a disposable machine does not read.
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/info/* /usr/share/locale/* /usr/share/lintian
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*-old /var/lib/dpkg/*-old
find /var/log -type f -delete
