-- Fails with the kind that the message names, every time; "ok" answers.
return function(request)
    if request.text == "ok" then return "fine" end
    return { error = { kind = request.text, message = "the script was told to fail", http_status = 500 } }
end
