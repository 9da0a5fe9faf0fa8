-- Fails with the kind that the last word names, every time; "ok" answers.
return function(request)
    local word = request.text:match("([%w_]+)%s*$")
    if word == "ok" then return "fine" end
    return { error = { kind = word, message = "the script was told to fail", http_status = 500, retry_after_ms = 1 } }
end
