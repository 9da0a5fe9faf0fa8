-- Fails for good, a moment later, so that something can be queued behind it.
return function()
    return { error = { kind = "request", message = "the script was told to fail", http_status = 400 }, delay_ms = 1500 }
end
