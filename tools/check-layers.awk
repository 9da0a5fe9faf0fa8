# The rules of tools/check-layers.
BEGIN {
    # Highest first; modules on one line stand side by side and do not see each other.
    n = split("cli|worker|api|dream routine|engine|memory vault|sandbox web|model mcp egress|store|http|io|core|json|base", rows, "|")
    for (i = 1; i <= n; i++) {
        m = split(rows[i], names, " ")
        for (j = 1; j <= m; j++) rank[names[j]] = n - i + 1
    }
    # header -> paths that may see it
    only["uv.h"] = "^src/(io|http)/"
    only["llhttp.h"] = "^src/http/"
    only["curl/curl.h"] = "^src/http/"
    only["sqlite3.h"] = "^src/store/sqlite/"
    only["libpq-fe.h"] = "^src/store/postgres/"
    only["lua.h"] = only["lauxlib.h"] = only["lualib.h"] = "^src/model/script"
    only["libxml/HTMLparser.h"] = only["libxml/parser.h"] = only["libxml/xmlerror.h"] = "^src/web/"
    only["xxhash.h"] = "^src/base/digest"
    only["seccomp.h"] = only["linux/seccomp.h"] = only["linux/landlock.h"] = "^(src/sandbox|src/egress|hand)/"
    m = split("assert ctype errno float inttypes limits math stdalign stdarg stdbool stddef stdint stdio " \
              "stdlib string", names, " ")
    for (j = 1; j <= m; j++) libc[names[j] ".h"] = 1
}
function bad(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; errors++ }
FNR == 1 {
    m = split(FILENAME, parts, "/")
    module = parts[1] == "src" ? parts[2] : parts[1]
    if (parts[1] == "src" && m > 2 && !(module in rank)) bad("src/" module " has no place in the layers")
}
/^[ \t]*#[ \t]*include[ \t]*[<"]/ {
    header = $0
    sub(/^[^<"]*[<"]/, "", header)
    sub(/[>"].*/, "", header)
    system_header = ($0 ~ /</)
    base = header
    sub(/^lua5\.[0-9]\//, "", base)
    if (base in only && FILENAME !~ only[base]) bad("<" header "> is not for this module")
    if (system_header) {
        if (module == "core" && !(header in libc)) bad("core/ is pure: <" header "> is not plain C")
        next
    }
    if (header ~ /\.\./) { bad("an include path does not climb: \"" header "\""); next }
    target = header
    if (!sub(/\/.*/, "", target)) {
        bad("name the module: \"" (module == "hand" ? "hand" : module) "/" header "\"")
        next
    }
    if (target == module || target == "ostler") next
    if (module == "hand") {
        if (target != "base" && target != "json") bad("the hand sees only base/ and json/, not " target "/")
    } else if (target == "hand") {
        if (module != "sandbox") bad("only sandbox/ sees the hand's headers")
    } else if (!(target in rank)) bad("\"" header "\": no such module in the layers")
    else if (rank[target] == rank[module]) bad(module "/ and " target "/ stand side by side: no include between them")
    else if (rank[target] > rank[module]) bad("points up: " module "/ is below " target "/")
}
END {
    if (errors) printf "check-layers: %d errors\n", errors
    exit errors ? 1 : 0
}
