-- Begins to answer and then waits ten minutes between two pieces; "go" answers at once.
return function(request)
    if request.text:find("go") then return "gone" end
    return { text = string.rep("word ", 40), chunks = 40, delay_ms = 600000 }
end
