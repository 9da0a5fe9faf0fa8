-- script/demo: a small job on ostler's own sources, done with real tools.
--
-- Not an AI: every step below is written down here, and what it says is taken from what the tools
-- returned. It looks for a helper that src/base does not have yet, adds it in the way the file does
-- it, compiles and tests it, and writes a report. It keeps no state of its own: each request shows
-- the tool calls so far, and the next step follows from them.

local HEADER, SOURCE = "src/base/str.h", "src/base/str.c"
local REPORT = "/mnt/session/outputs/report.md"
local WHO = "I am script/demo, a scripted model, not an AI: my steps are written in a Lua file, "
    .. "and only the tools and their results are real."
local REAL = "Set ANTHROPIC_API_KEY to give the job to a real model."

-- What may be added, in order; the first that the sources do not have yet is taken.
local CANDIDATES = {
    {
        name = "str_count_ch",
        doc = "/* How often `c` occurs in `s`. */",
        decl = "size_t str_count_ch(struct str s, char c);",
        body = [[
size_t str_count_ch(struct str s, char c)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += s.ptr[i] == c;
    return n;
}
]],
        checks = {
            [[str_count_ch(STR("a,b,c"), ',') == 2]],
            [[str_count_ch(STR(""), ',') == 0]],
            [[str_count_ch(STR_NONE, 'x') == 0]],
            [[str_count_ch(str_n("\0a\0", 3), '\0') == 2]],
        },
    },
    {
        name = "str_rfind_ch",
        doc = "/* Position of the last `c` in `s`, or -1. */",
        decl = "ptrdiff_t str_rfind_ch(struct str s, char c);",
        body = [[
ptrdiff_t str_rfind_ch(struct str s, char c)
{
    const char *p = s.len ? memrchr(s.ptr, c, s.len) : NULL;
    return p ? p - s.ptr : -1;
}
]],
        checks = {
            [[str_rfind_ch(STR("a/b/c"), '/') == 3]],
            [[str_rfind_ch(STR("abc"), '/') == -1]],
            [[str_rfind_ch(STR_NONE, '/') == -1]],
        },
    },
    {
        name = "str_all_ch",
        doc = "/* True when every byte of `s` is `c`; an empty view has none that is not. */",
        decl = "bool str_all_ch(struct str s, char c);",
        body = [[
bool str_all_ch(struct str s, char c)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != c)
            return false;
    }
    return true;
}
]],
        checks = {
            [[str_all_ch(STR("----"), '-')]],
            [[!str_all_ch(STR("--x-"), '-')]],
            [[str_all_ch(STR_NONE, '-')]],
        },
    },
}

-- The neighbour: new helpers are put beside it, in the header and in the source.
local NEIGHBOUR = "str_find_ch"

local function say(text, name, input)
    local answer = { text = text, delay_ms = 40, chunks = math.max(1, #text // 24) }
    if name then
        answer.tools = { { name = name, input = input } }
    end
    return answer
end

-- grep's "file:line:text", for one file.
local function lines_of(output, file)
    local found = {}
    for line in output:gmatch("[^\n]+") do
        local path, number, text = line:match("^(.-):(%d+):(.*)$")
        if path and path:sub(-#file) == file then
            found[#found + 1] = { number = tonumber(number), text = text }
        end
    end
    return found
end

local function choose(output)
    for _, c in ipairs(CANDIDATES) do
        if not output:find(c.name, 1, true) then
            return c
        end
    end
end

-- The line that declares (ends in ";") or defines (does not) the neighbour, without its comment.
local function line_with(lines, declaration)
    for _, line in ipairs(lines) do
        local code = line.text:gsub("%s*/%*.*$", "")
        local starts = code:match("^%a[%w_ %*]*" .. NEIGHBOUR .. "%(")
        if starts and (code:sub(-1) == ";") == declaration then
            return line
        end
    end
end

local function test_command(c)
    local out = {
        "mkdir -p /tmp/demo && cat > /tmp/demo/test.c <<'END_OF_TEST'",
        '#include "base/str.h"',
        "#include <stdio.h>",
        "",
        "int main(void)",
        "{",
        "    const struct { const char *what; bool ok; } checks[] = {",
    }
    for _, check in ipairs(c.checks) do
        local quoted = check:gsub("\\", "\\\\"):gsub('"', '\\"')
        out[#out + 1] = '        {"' .. quoted .. '", ' .. check .. "},"
    end
    local rest = [[
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        printf("%s: %s\n", checks[i].ok ? "ok" : "FAILED", checks[i].what);
        failed += !checks[i].ok;
    }
    printf("%d of %zu checks failed\n", failed, sizeof checks / sizeof checks[0]);
    return failed != 0;
}
END_OF_TEST
ok=1
for level in 0 1 2 3; do
    echo "compiling and testing with -O$level"
    gcc -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Werror -O$level -Isrc \
        -o /tmp/demo/test-$level /tmp/demo/test.c src/base/str.c \
        && /tmp/demo/test-$level || { ok=0; break; }
    sleep 1
done
rm -rf /tmp/demo
[ $ok = 1 ] && echo "all levels passed"]]
    out[#out + 1] = rest
    return table.concat(out, "\n")
end

local function report(c, place, test)
    local verdict = test.is_error and "**failed**; the output says why" or "passed"
    return table.concat({
        "# Report of script/demo",
        "",
        "This report was written by a script, not by an AI. What it says comes from the tools.",
        "",
        "* Searched `src/base` for `" .. c.name .. "`: it was not there.",
        "* Added `" .. c.decl .. "` to `" .. HEADER .. "` after line " .. place.header
            .. ", and its definition to `" .. SOURCE .. "` before line " .. place.source .. ".",
        "* Compiled and tested it: " .. verdict .. ".",
        "",
        "Output of the test:",
        "",
        "```",
        (test.content:gsub("```", "'''"):gsub("%s+$", "")),
        "```",
        "",
    }, "\n")
end

-- ---- the steps: each gets the calls so far and what they found out ----

local function step_search()
    return say(WHO .. "\n\nI look for a helper that is missing from the string functions of "
        .. "src/base, and for its neighbour " .. NEIGHBOUR .. ".", "grep",
        { pattern = "\\bstr_[a-z_0-9]+\\(", path = "src/base" })
end

local function gave_up(call)
    return say("The tool " .. tostring(call.name) .. " failed, and my script has no other way:\n\n"
        .. call.content .. "\n\n" .. REAL)
end

-- Another directory than ostler's: have a look at it and say so.
local function elsewhere(calls)
    if #calls == 1 then
        return say("I do not find ostler's string functions here (grep says: "
            .. (calls[1].content:sub(1, 200):gsub("%s+$", "")) .. "), so there is nothing that my "
            .. "script can improve. I look at what there is.", "bash",
            { command = "pwd; ls -la | head -40; git log --oneline -5 2>/dev/null || true" })
    end
    if calls[2].is_error then
        return gave_up(calls[2])
    end
    return say("What I see in this directory:\n\n" .. calls[2].content
        .. "\n\nThat is all I can do here. " .. WHO .. " " .. REAL)
end

local function step_read(found)
    return say("There is no " .. found.c.name .. " yet. I read the place where it belongs: "
        .. HEADER .. ", line " .. found.decl.number .. ".", "read",
        { file_path = HEADER,
          view_range = { math.max(1, found.decl.number - 6), found.decl.number + 6 } })
end

local function step_declare(found)
    local c = found.c
    return say("I add the declaration after " .. NEIGHBOUR .. ".", "edit", {
        file_path = HEADER,
        old_string = found.decl.text,
        new_string = found.decl.text .. "\n" .. c.doc .. "\n" .. c.decl,
    })
end

local function step_define(found)
    return say("The definition goes into " .. SOURCE .. ", beside its neighbour's.", "edit", {
        file_path = SOURCE,
        old_string = found.def.text .. "\n{",
        new_string = found.c.body .. "\n" .. found.def.text .. "\n{",
    })
end

local function step_test(found)
    return say("Now I compile it and test it at four levels of optimisation, with a second between "
        .. "them. This takes a few seconds: a good moment to kill the server.", "bash",
        { command = test_command(found.c) })
end

local function step_report(found, test)
    return say(test.is_error and "The test did not pass. I write that down."
        or "All checks passed. I write the report.", "write",
        { file_path = REPORT,
          content = report(found.c, { header = found.decl.number, source = found.def.number },
              test) })
end

local function step_end(found, calls)
    local test, written = calls[5], calls[6]
    local out = { "Done." }
    if test.is_error then
        out[1] = "I am at the end of my script, but the test did not pass."
    end
    out[#out + 1] = "* Found: src/base had no " .. found.c.name .. "."
    out[#out + 1] = "* Changed: " .. calls[3].content:gsub("%s+$", "") .. "; "
        .. calls[4].content:gsub("%s+$", "") .. "."
    out[#out + 1] = "* Tested: " .. (test.content:match("([^\n]+)%s*$") or "no output") .. "."
    out[#out + 1] = "* Report: " .. written.content:gsub("%s+$", "") .. "."
    out[#out + 1] = ""
    out[#out + 1] = "I am a script, not an AI. " .. REAL
    return say(table.concat(out, "\n"))
end

return function(request)
    local answer = aside(request)
    if answer then
        return answer
    end
    local calls = request.calls
    if #calls == 0 then
        return step_search()
    end
    local output = calls[1].content or ""
    local found = {
        c = choose(output),
        decl = line_with(lines_of(output, HEADER), true),
        def = line_with(lines_of(output, SOURCE), false),
    }
    if calls[1].is_error or not found.decl or not found.def then
        return elsewhere(calls)
    end
    if not found.c then
        return say("I searched src/base: everything that my script could add is already there. "
            .. "Nothing to do. " .. WHO .. " " .. REAL)
    end
    local last = calls[#calls]
    if last.is_error and #calls ~= 5 then
        return gave_up(last)
    end
    if #calls == 1 then
        return step_read(found)
    elseif #calls == 2 then
        return step_declare(found)
    elseif #calls == 3 then
        return step_define(found)
    elseif #calls == 4 then
        return step_test(found)
    elseif #calls == 5 then
        return step_report(found, last)
    end
    return step_end(found, calls)
end
