throw new Error('this file is not for the image');
