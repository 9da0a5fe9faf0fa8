#include "egress/registries.h"

#include <stddef.h>

const struct registry_host registry_hosts[] = {
    {"apt", "deb.debian.org"},         {"apt", "security.debian.org"},
    {"apt", "archive.ubuntu.com"},     {"apt", "security.ubuntu.com"},
    {"apt", "ports.ubuntu.com"},       {"cargo", "crates.io"},
    {"cargo", "index.crates.io"},      {"cargo", "static.crates.io"},
    {"gem", "rubygems.org"},           {"gem", "index.rubygems.org"},
    {"go", "proxy.golang.org"},        {"go", "sum.golang.org"},
    {"npm", "registry.npmjs.org"},     {"pip", "pypi.org"},
    {"pip", "files.pythonhosted.org"}, {NULL, NULL},
};
