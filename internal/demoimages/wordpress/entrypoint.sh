#!/bin/bash
# Start of cc-ci's WordPress image: Apache with PHP on port 8080. WordPress reads
# /etc/wordpress/config-default.php, as Debian's package has it; a recipe puts it there.
set -euo pipefail

content=/var/lib/wordpress/wp-content

if [ "${1:-apache2}" = apache2 ]; then
    # The themes are in the image, the folder that names them may be a volume of an older one.
    mkdir -p "$content/themes"
    for theme in /usr/share/wordpress/wp-content/themes/*/; do
        ln -sfn "${theme%/}" "$content/themes/"
    done
    php=(/usr/lib/apache2/modules/libphp*.so)
    exec apache2 -D FOREGROUND -f /etc/wordpress/apache.conf -c "LoadModule php_module ${php[0]}"
fi
exec "$@"
