-- Fails the first request of the session in the retried way, answers the others.
return function(request)
    if request.request_number == 1 then
        return { error = { kind = "overloaded", message = "try again", http_status = 529, retry_after_ms = 1 } }
    end
    return "recovered"
end
