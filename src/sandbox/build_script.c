/* What runs in a build sandbox, as shell scripts: one for each phase, because what apt unpacked is
 * merged into the root before the others run, and setup gets another home and another network. */
#include "sandbox/build.h"

static const char head[] = "set -euo pipefail\n"
                           "umask 022\n"
                           "say() { printf '== %s\\n' \"$*\"; }\n"
                           "need() {\n"
                           "    command -v \"$1\" >/dev/null && return\n"
                           "    echo \"$1 is not installed on this host: apt-get install $2, or "
                           "name $2 among the environment's apt packages\"\n"
                           "    exit 1\n"
                           "}\n";

/* Downloads what the base lacks and unpacks it: no maintainer script runs. The layer has the base's
 * links (/lib -> usr/lib), so that everything ends below usr. */
static const char apt_head[] =
    "need apt-get apt\n"
    "need dpkg-deb dpkg\n"
    "for d in bin sbin lib lib32 lib64 libx32; do\n"
    "    if [ -L /$d ]; then mkdir -p /layer/usr/$d; ln -s usr/$d /layer/$d; fi\n"
    "done\n"
    "mkdir -p /tmp/apt/lists /tmp/apt/state /tmp/apt/cache/archives/partial\n"
    "cp -r /run/apt-lists/. /tmp/apt/lists/ 2>/dev/null || true\n"
    "chmod -R u+rwX /tmp/apt/lists\n"
    "rm -f /tmp/apt/lists/lock\n"
    "mkdir -p /tmp/apt/lists/partial /tmp/apt/lists/auxfiles\n"
    "apt() {\n"
    "    apt-get -q -y -o Dir::State=/tmp/apt/state -o Dir::State::lists=/tmp/apt/lists \\\n"
    "        -o Dir::State::status=/run/dpkg-status -o Dir::Cache=/tmp/apt/cache \\\n"
    "        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User= \\\n"
    "        -o Debug::NoLocking=true -o Acquire::Languages=none -o Acquire::Retries=2 \\\n"
    "        -o Dir::Log=/tmp/apt -o quiet::NoProgress=true \"$@\"\n"
    "}\n"
    "say apt: update\n"
    "apt update || say the lists could not be brought up to date, going on with those of the "
    "host\n";

static const char apt_tail[] =
    "shopt -s nullglob\n"
    "for f in /tmp/apt/cache/archives/*.deb; do\n"
    "    say \"unpacking ${f##*/}\"\n"
    "    dpkg-deb --fsys-tarfile \"$f\" |\n"
    "        tar -x -p --no-same-owner --keep-directory-symlink -C /layer -f -\n"
    "done\n"
    "rm -rf /tmp/apt\n";

static void quote(struct buf *b, struct str s)
{
    buf_ch(b, '\'');
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] == '\'')
            buf_z(b, "'\\''");
        else
            buf_ch(b, s.ptr[i]);
    buf_ch(b, '\'');
}

static void names(struct buf *b, const struct json *list)
{
    json_for_each (it, list) {
        buf_ch(b, ' ');
        quote(b, it->str);
    }
    buf_ch(b, '\n');
}

static bool apt_phase(const struct json *packages, struct buf *out)
{
    const struct json *list = json_get(packages, "apt");
    if (!list || !list->count)
        return false;
    buf_z(out, head);
    buf_z(out, apt_head);
    buf_z(out, "say apt:");
    names(out, list);
    buf_z(out, "apt install --download-only --no-remove --no-install-recommends");
    names(out, list);
    buf_z(out, apt_tail);
    return true;
}

/* One command for all packages of a manager; go takes them one by one. */
static const struct {
    const char *name, *before, *command;
} managers[] = {
    {"cargo",
     "need cargo cargo\nexport CARGO_HOME=/tmp/cargo\nmkdir -p $CARGO_HOME/link\n"
     /* rustc links with cc, which Debian's gcc has from a maintainer script: not in a layer. */
     "if ! command -v cc >/dev/null; then\n"
     "    need gcc gcc\n"
     "    ln -s \"$(command -v gcc)\" $CARGO_HOME/link/cc\n"
     "    PATH=$PATH:$CARGO_HOME/link\n"
     "fi\n"
     "[ ! -e /etc/cargo.toml ] || cp /etc/cargo.toml $CARGO_HOME/config.toml\n"
     /* The git inside cargo leaves the port out of Host, which the egress proxy refuses. */
     "! command -v git >/dev/null || export CARGO_NET_GIT_FETCH_WITH_CLI=true\n",
     "cargo install --root /opt/env/cargo"},
    {"gem", "need gem ruby\n",
     "gem install --no-document --install-dir /opt/env/gem --bindir /opt/env/gem/bin"},
    {"go",
     "need go golang-go\nexport GOBIN=/opt/env/go/bin GOPATH=/tmp/go GOCACHE=/tmp/go-cache "
     "GOFLAGS=\"${GOFLAGS:-} -modcacherw\"\n"
     "install_go() { for p; do case $p in *@*) ;; *) p=$p@latest ;; esac; go install \"$p\"; "
     "done; }\n",
     "install_go"},
    {"npm",
     "need npm npm\nexport npm_config_cache=/tmp/npm npm_config_globalconfig=/etc/npmrc "
     "npm_config_update_notifier=false\n",
     "npm install --global --prefix /opt/env/npm --no-audit --no-fund"},
    {"pip",
     "need python3 python3\npython3 -m pip --version >/dev/null 2>&1 || need pip3 python3-pip\n"
     "export PIP_CONFIG_FILE=/etc/pip.conf\n",
     "python3 -m pip install --no-input --disable-pip-version-check --no-cache-dir --retries 2 "
     "--no-warn-script-location --root-user-action=ignore --target /opt/env/pip"},
};

static bool packages_phase(const struct json *packages, struct buf *out)
{
    bool any = false;
    buf_z(out, head);
    for (size_t i = 0; i < COUNT_OF(managers); i++) {
        const struct json *list = json_get(packages, managers[i].name);
        if (!list || !list->count)
            continue;
        any = true;
        buf_printf(out, "say %s:", managers[i].name);
        names(out, list);
        buf_z(out, managers[i].before);
        buf_z(out, managers[i].command);
        names(out, list);
    }
    return any;
}

/* Each command in a shell of its own, so that one cannot end the script by its options. */
static bool setup_phase(const struct json *config, struct buf *out)
{
    const struct json *setup = json_get(config, "setup");
    size_t i = 0;
    if (!setup || !setup->count)
        return false;
    buf_z(out, head);
    buf_z(out, "mkdir -p /opt/env/bin\n");
    json_for_each (it, json_get(config, "variables")) {
        buf_z(out, "export ");
        buf_str(out, it->key);
        buf_ch(out, '=');
        quote(out, it->str);
        buf_ch(out, '\n');
    }
    json_for_each (it, setup) {
        struct str rest = it->str, line = str_split(&rest, '\n');
        buf_z(out, "say setup: ");
        quote(out, str_utf8_take(line, 200));
        buf_z(out, "\nbash -eo pipefail -c ");
        quote(out, it->str);
        buf_printf(out, " </dev/null || { c=$?; say \"setup command %zu ended with exit $c\"; ",
                   i++);
        buf_z(out, "exit $c; }\n");
    }
    return true;
}

bool build_script(const struct json *config, enum build_phase phase, struct buf *out)
{
    const struct json *packages = json_get(config, "packages");
    switch (phase) {
    case BUILD_APT: return apt_phase(packages, out);
    case BUILD_PACKAGES: return packages_phase(packages, out);
    case BUILD_SETUP: return setup_phase(config, out);
    case BUILD_PHASES: break;
    }
    return false;
}
