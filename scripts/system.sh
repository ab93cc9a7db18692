# Programs that come from the system's package manager: which are missing, how to get them. Sourced by setup.sh.
# Works with the machine's own package sources only: no address is written that was not there before.

APT_FOLDER=${APT_FOLDER:-/etc/apt}
RUNSC_OLDEST=2023 # older ones have no systrap platform
PROGRAMS="rabbitmq-server postgresql runsc mmdebstrap pgbouncer bubblewrap gcc"

has_program() {
  case "$1" in
    rabbitmq-server) compgen -G '/usr/lib/rabbitmq/bin/rabbitmq-server' >/dev/null ||
      compgen -G '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server' >/dev/null ||
      [ -x /opt/rabbitmq/sbin/rabbitmq-server ] ;;
    postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || compgen -G '/usr/pgsql-*/bin/initdb' >/dev/null ||
      [ -x /usr/local/pgsql/bin/initdb ] ;;
    gcc) command -v gcc >/dev/null && [ -e /usr/include/stdio.h ] ;;
    pgbouncer) command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] ;;
    bubblewrap) command -v bwrap >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

missing_programs() {
  local program
  for program in $PROGRAMS; do has_program "$program" || echo "$program"; done
}

remedy() {
  case "$1" in
    rabbitmq-server) echo "rabbitmq-server: as root \`apt-get install rabbitmq-server\` (Debian, Ubuntu); elsewhere see rabbitmq.com/docs/download" ;;
    postgresql) echo "postgresql: as root \`apt-get install postgresql\`; without root the PostgreSQL of a PyPI wheel in .venv is used" ;;
    runsc) echo "runsc (gVisor, for sandboxes): as root \`apt-get install runsc\`, on Debian 12 from bookworm-backports; elsewhere see gvisor.dev/docs/user_guide/install" ;;
    mmdebstrap) echo "mmdebstrap (builds sandbox images): as root \`apt-get install mmdebstrap\`" ;;
    gcc) echo "gcc (tests stand a fake NVIDIA library below the real binding): as root \`apt-get install gcc libc6-dev\`" ;;
    pgbouncer) echo "pgbouncer (peer in the benchmarks): as root \`apt-get install pgbouncer\`" ;;
    bubblewrap) echo "bubblewrap (peer in the benchmarks): as root \`apt-get install bubblewrap\`" ;;
  esac
}

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ -f /etc/debian_version ]; }

apt_quiet() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" </dev/null; }

refresh_lists() {
  [ "${LISTS_FRESH:-0}" = 1 ] && return
  apt_quiet update || echo "setup: apt-get update had errors; going on with what it has" >&2
  LISTS_FRESH=1
}

# Debian starts and enables a service when its package is installed. Not here: policy-rc.d forbids the start, and what
# was enabled is disabled again. Only for packages that this run installs; services that were there stay as they are.
install_packages() {
  local policy=/usr/sbin/policy-rc.d made=0 status=0
  refresh_lists
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=1
  fi
  apt_quiet install --no-install-recommends -y "$@" >/tmp/sandpool-apt.$$ 2>&1 || status=$?
  [ "$made" = 1 ] && rm -f "$policy"
  [ "$status" = 0 ] || tail -n 15 /tmp/sandpool-apt.$$ >&2
  rm -f /tmp/sandpool-apt.$$
  return "$status"
}

disable_service() {
  if [ -d /run/systemd/system ]; then systemctl disable --quiet "$@" 2>/dev/null || true; fi
}

install_program() {
  case "$1" in
    rabbitmq-server)
      install_packages rabbitmq-server
      disable_service rabbitmq-server epmd.socket epmd.service ;;
    postgresql)
      # Debian's package would make a system cluster; ours are private.
      if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
      fi
      install_packages postgresql
      disable_service postgresql ;;
    pgbouncer)
      install_packages pgbouncer
      disable_service pgbouncer ;;
    runsc) install_runsc ;;
    gcc) install_packages gcc libc6-dev ;;
    *) install_packages "$1" ;;
  esac
}

# The version that apt would install, for example 0.0~20240729.0-4~bpo12+1 -> 2024; 0 when there is none.
runsc_year() { apt-cache policy runsc 2>/dev/null | sed -n 's/^ *Candidate: [^~]*~\([0-9]\{4\}\).*/\1/p' | grep . || echo 0; }

backports_runsc() { apt-cache madison runsc 2>/dev/null | grep -q -- "-backports/"; }

install_runsc() {
  local codename
  refresh_lists
  if [ "$(runsc_year)" -ge "$RUNSC_OLDEST" ]; then
    install_packages runsc
    return
  fi
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  backports_runsc || add_backports "$codename" || return 1
  install_packages -t "$codename-backports" runsc
}

# Add `<codename>-backports` beside the source that the machine already has for `<codename>`: same mirror, same key.
add_backports() {
  local codename=$1 file target
  for file in "$APT_FOLDER"/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    target=$APT_FOLDER/sources.list.d/sandpool-backports.sources
    # Stanzas are separated by empty lines; take the first whose Suites hold the plain codename.
    if awk -v codename="$codename" 'BEGIN { RS = ""; FS = "\n" }
      $0 ~ "(^|\n)Suites:([^\n]*[ \t])?" codename "([ \t]|\n|$)" {
        for (i = 1; i <= NF; i++) {
          if ($i ~ /^#/) continue
          if ($i ~ /^Suites:/) $i = "Suites: " codename "-backports"
          print $i
        }
        found = 1; exit
      }
      END { exit !found }' "$file" >"$target.new"; then
      mv "$target.new" "$target"
      echo "setup: added $codename-backports to apt's sources ($target, same mirror as $(basename "$file"))"
      LISTS_FRESH=0
      refresh_lists
      return 0
    fi
    rm -f "$target.new"
  done
  for file in "$APT_FOLDER"/sources.list "$APT_FOLDER"/sources.list.d/*.list; do
    [ -f "$file" ] || continue
    target=$APT_FOLDER/sources.list.d/sandpool-backports.list
    if grep -E "^deb (\[[^]]*\] )?[^ ]+ $codename " "$file" | head -n 1 | sed -E "s/ $codename / $codename-backports /" | grep . >"$target.new"; then
      mv "$target.new" "$target"
      echo "setup: added $codename-backports to apt's sources ($target, same mirror as $(basename "$file"))"
      LISTS_FRESH=0
      refresh_lists
      return 0
    fi
    rm -f "$target.new"
  done
  echo "setup: found no apt source for $codename to take the mirror of $codename-backports from" >&2
  return 1
}
