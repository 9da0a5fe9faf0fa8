-- "slow" waits ten minutes before it answers, so that a turn can be found running; anything else answers at once.
return function(request)
    if request.text:find("slow") then return { text = "late", delay_ms = 600000 } end
    return "fast"
end
