-- script/echo: answers with what was last said to it.
return function(request)
    return aside(request) or request.text
end
