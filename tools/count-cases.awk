# Counts the cases in meson's testlog.txt: prints "passed failed skipped".
#
# A cmocka binary under CMOCKA_MESSAGE_OUTPUT=TAP prints one line a case; any other test is one case.
# A binary that dies after some cases has failed once more than its lines say.
function close_test() {
    if (!open) return
    lines = ok + bad + skip
    good_exit = (result ~ /exit status 0$/)
    if (result ~ /exit status 77$/) { skipped += lines ? skip : 1; passed += ok; failed += bad }
    else if (lines == 0) { if (good_exit) passed++; else failed++ }
    else {
        passed += ok; failed += bad; skipped += skip
        if (bad == 0 && (!good_exit || lines < planned)) failed++
    }
    open = 0
}
/^=+ [0-9]+\/[0-9]+ =+$/ { close_test(); open = 1; ok = bad = skip = planned = 0; result = ""; next }
/^result: / && result == "" { result = $0; next }
/^1\.\.[0-9]+/ { n = $0; sub(/^1\.\./, "", n); planned += n + 0; next }
/^(not )?ok [0-9]+ .*# SKIP/ { skip++; next }
/^not ok [0-9]+/ { bad++; next }
/^ok [0-9]+/ { ok++; next }
END { close_test(); print passed + 0, failed + 0, skipped + 0 }
