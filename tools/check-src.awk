# The rules of tools/check-src. Byte locale: columns are counted without UTF-8's continuation bytes.
function bad(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; errors++ }
function note(file, line, text) {
    notes++
    if (verbose) printf "%s:%d: note: %s\n", file, line, text
}
function end_file() {
    if (file == "") return
    if (is_c && lines > 1000) { printf "%s:%d: file of %d lines; 1000 at the most\n", file, lines, lines; errors++ }
    else if (is_c && lines > 600) note(file, lines, "file of " lines " lines (aim: 600)")
}
# Blanks out comments, strings and character constants, so that only code is left.
function code_of(s,    out, i, c, n) {
    out = ""
    n = length(s)
    for (i = 1; i <= n; i++) {
        c = substr(s, i, 1)
        if (in_comment) {
            if (c == "*" && substr(s, i + 1, 1) == "/") { in_comment = 0; i++ }
        } else if (c == "/" && substr(s, i + 1, 1) == "*") { in_comment = 1; i++ }
        else if (c == "/" && substr(s, i + 1, 1) == "/") break
        else if (c == "\"" || c == "'") {
            for (i++; i <= n && substr(s, i, 1) != c; i++) if (substr(s, i, 1) == "\\") i++
            out = out "\"\""
        } else out = out c
    }
    return out
}
BEGIN {
    banned = "strcpy|strcat|strncpy|stpcpy|sprintf|vsprintf|strtok|gets|atoi|atol|atoll|atof|" \
             "system|popen|alloca|tmpnam|tempnam|mktemp|rand|srand|localtime|gmtime|ctime|asctime"
    banned_re = "(^|[^A-Za-z0-9_>.\"])(" banned ")[ ]*[(]"
    mark_re = "(^|[^A-Za-z0-9_])(TO" "DO|FIX" "ME|XX" "X)([^A-Za-z0-9_]|$)"
}
FNR == 1 {
    end_file()
    file = FILENAME
    is_c = (file ~ /\.[ch]$/)
    is_test = (file ~ /^(\.\/)?tests\//)
    in_comment = 0
    func_start = 0
    if (file ~ /\.h$/ && $0 !~ /^\/\* [A-Za-z0-9_.\/-]+: ./)
        bad("a header opens with a comment: what it is, which thread, who owns it, how long it lives")
}
{
    lines = FNR
    excused = ($0 ~ /check-src: ok/)
    if ($0 ~ /[ \t]$/) bad("trailing blank")
    if ($0 ~ /\t/ && file !~ /Makefile/) bad("tab")
    if ($0 ~ /\r/) bad("carriage return")
    if (!excused && $0 ~ mark_re) bad("mark of unfinished work: finish it or open an issue")
}
is_c {
    line = $0
    gsub(/[\200-\277]/, "", line)
    if (length(line) > 100) bad("line of " length(line) " columns; 100 at the most")
    if (in_comment || $0 ~ /[\/"']/) code = code_of($0); else code = $0
    if (!excused && code ~ /[(]/) {
        if (match(code, banned_re)) {
            name = substr(code, RSTART, RLENGTH)
            gsub(/[^A-Za-z]/, "", name)
            bad(name "() is banned")
        }
        if (is_test && code ~ /(^|[^A-Za-z0-9_>.])(sleep|usleep|nanosleep)[ ]*[(]/)
            bad("tests do not sleep: wait for the event")
    }
    if ($0 ~ /^[A-Za-z_].*[(]/ && $0 !~ /;$/) { name = $0; sub(/[(].*/, "", name); sub(/.*[ *]/, "", name) }
    if ($0 == "{") { func_start = FNR; func_name = name }
    if ($0 == "}" && func_start) {
        size = FNR - func_start + 1
        limit = (func_name ~ /_tick$/ || func_name == "tick") ? 200 : 120
        if (size > limit) bad(func_name "() has " size " lines; " limit " at the most")
        else if (size > 60) note(FILENAME, func_start, func_name "() has " size " lines (aim: 60)")
        func_start = 0
    }
}
END {
    end_file()
    if (notes && !verbose) printf "check-src: %d notes about size (tools/check-src -v lists them)\n", notes
    if (errors) printf "check-src: %d errors\n", errors
    exit errors ? 1 : 0
}
